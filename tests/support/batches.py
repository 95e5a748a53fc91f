"""Small random batches and networks for the tests of models."""

from __future__ import annotations

import torch

from recdistill.data.batch.extras import Extras
from recdistill.models.embeddings.growable import TableOptions
from recdistill.models.examples import ACTIONS, EXTRAS, FIELDS, LENGTH, SLOTS, lookup, repeat_histories, take
from recdistill.models.examples import example_batch as make_batch
from recdistill.models.factory import build_backbone
from recdistill.models.heads import Towers

__all__ = [
    "ACTIONS",
    "EXTRAS",
    "FIELDS",
    "LENGTH",
    "SLOTS",
    "lookup",
    "make_batch",
    "make_net",
    "repeat_histories",
    "take",
]


def make_net(
    kind: str, seed: int = 0, width: int = 8, layout: str = "single", extras: Extras = EXTRAS, **options: object
) -> Towers:
    torch.manual_seed(seed)
    backbone = build_backbone(
        kind,
        width=width,
        fields=FIELDS,
        slots=SLOTS,
        actions=ACTIONS,
        length=LENGTH,
        tables=TableOptions(seed=seed),
        options=dict(options),
        extras=extras,
    )
    return Towers(backbone, 1, layout)  # type: ignore[arg-type]

"""Small random batches for the tests of models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from recdistill.data.batch.batch import Batch, History, Lookup
from recdistill.models.embeddings.growable import TableOptions
from recdistill.models.factory import build_backbone
from recdistill.models.heads import Towers

FIELDS, SLOTS, ACTIONS, LENGTH = 3, 2, 2, 9


def lookup(ids: np.ndarray) -> Lookup:
    unique, inverse = np.unique(np.concatenate([[0], ids.reshape(-1)]), return_inverse=True)
    return Lookup(torch.from_numpy(unique.astype(np.int64)), torch.from_numpy(inverse[1:].reshape(ids.shape)))


def make_batch(sizes: Sequence[int] = (3, 1, 2), lengths: Sequence[int] = (4, 0, 9), seed: int = 0) -> Batch:
    """One request per entry: `sizes` samples each, `lengths` events each."""
    draw = np.random.default_rng(seed)
    samples, events = sum(sizes), sum(lengths)
    past = lookup(draw.integers(1, 30, events))
    age = np.concatenate([np.sort(draw.integers(0, 25, n))[::-1] for n in lengths])
    history = History(
        past.unique,
        past.inverse,
        torch.from_numpy(age.astype(np.int64)),
        torch.from_numpy(draw.integers(0, ACTIONS, events)),
        torch.from_numpy(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)),
        torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes)),
    )
    user = np.repeat(draw.integers(1, 20, len(sizes)), sizes)
    return Batch(
        torch.arange(samples),
        lookup(draw.integers(1, 30, samples)),
        lookup(user),
        lookup(draw.integers(1, 40, (samples, FIELDS))),
        lookup(draw.integers(0, 6, (samples, SLOTS))),
        history,
        torch.from_numpy(draw.integers(0, 2, (samples, 1)).astype(np.float32)),
        torch.full((samples, 1), float("nan")),
    )


def take(batch: Batch, rows: torch.Tensor) -> Batch:
    """The samples `rows` of a batch, in that order; every history stays."""

    def cut(column: Lookup) -> Lookup:
        return replace(column, inverse=column.inverse[rows])

    return replace(
        batch,
        sample_id=batch.sample_id[rows],
        item=cut(batch.item),
        user=cut(batch.user),
        context=cut(batch.context),
        lists=cut(batch.lists),
        history=replace(batch.history, of=batch.history.of[rows]),
        labels=batch.labels[rows],
        signals=batch.signals[rows],
    )


def repeat_histories(batch: Batch) -> Batch:
    """The same batch with one history per sample."""
    old = batch.history
    pieces = [torch.arange(int(old.offsets[r]), int(old.offsets[r + 1])) for r in old.of.tolist()]
    at = torch.cat(pieces)
    offsets = torch.tensor([0, *np.cumsum([len(piece) for piece in pieces])])
    history = History(old.unique, old.index[at], old.age[at], old.action[at], offsets, torch.arange(len(batch)))
    return replace(batch, history=history)


def make_net(kind: str, seed: int = 0, width: int = 8, layout: str = "single", **options: object) -> Towers:
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
    )
    return Towers(backbone, 1, layout)  # type: ignore[arg-type]

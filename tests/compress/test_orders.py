"""The units of a width have no order: where all that belongs to them changes places together, the answers stay."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from recdistill.models.heads import Towers
from recdistill.models.widths import widths_of
from tests.compress.test_transplant import EXTRAS, KINDS, answers, learned, network, transplant

NARROW = {"heads": 3, "hidden": [7, 6], "context_width": 5}  # 12 / 3 columns of a head
SEQUENCES = replace(EXTRAS, sequences=2)


def made(kind: str, seed: int) -> Towers:
    """Return a network of a kind, on a log with sequences."""
    own = {key: value for key, value in NARROW.items() if key in KINDS[kind] or key == "hidden" or kind != "longer"}
    if "heads" not in KINDS[kind]:
        own.pop("heads", None)
    return network(kind, 12, seed, SEQUENCES, **own)


@pytest.mark.parametrize("kind", KINDS)
def test_units_of_any_width_may_change_places(kind: str) -> None:
    net, other = made(kind, 0), made(kind, 1)
    learned(net)
    widths, before = widths_of(net), answers(net)
    alike = {name: torch.arange(size) for name, size in widths.sizes.items()}
    free = widths.sizes.keys() - widths.stacks.keys()
    assert len(free) >= 2
    for name in free:
        transplant(net, other, alike | {name: alike[name].roll(1)})
        largest = float((answers(other) - before).abs().max())
        # RoPE turns each pair of columns at a rate of its own
        assert largest > 1e-4 if name == "head_pairs" else largest <= 1e-6, f"{name}: {largest}"

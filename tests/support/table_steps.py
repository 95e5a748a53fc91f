"""Steps of an embedding table, the same for one on the host and one elsewhere."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from recdistill.models.embeddings.growable import GrowableTable

__all__ = ["STEPS", "TABLES", "Steps", "agree", "learned", "table"]

Steps = list[list[list[int]]]  # per step, per look-up, its ids but the padding
STEPS: Steps = [[[1, 2, 5]], [[2, 7], [7, 1, 3]], [[5, 3000], [1], [3000, 2]], [[1, 2, 3, 4, 5, 6, 7, 8]]]
TABLES = ("adam", "rowwise-adagrad", "frozen", "decayed")
WIDTH = 5  # of no power of two


def table(kind: str, width: int = WIDTH) -> GrowableTable:
    """Return a new table of the host; kind: its optimiser, or what is special about it."""
    optimiser = "rowwise-adagrad" if kind == "rowwise-adagrad" else "adam"
    found = GrowableTable(width, seed=1, name="t", std=0.1, optimiser=optimiser, rate=0.05)  # type: ignore[arg-type]
    if kind == "decayed":
        found.set_rate(0.05, 0.1)
    return found


def learned(one: GrowableTable, kind: str, steps: Steps = STEPS, begin: int = 0) -> Mapping[str, Tensor]:
    """Return the state of a table after its steps, from number `begin` on; every step has gradients of its own."""
    if kind == "decayed":
        one.set_rate(0.05, 0.1)
    if kind == "frozen":
        one.freeze(torch.tensor([2, 7]))
    for number, lookups in list(enumerate(steps))[begin:]:
        draw = torch.Generator().manual_seed(number)
        for ids in lookups:
            rows = one(torch.tensor([0, *ids]))
            pull = torch.randn(len(rows), one.width, generator=draw)
            (rows * pull.to(rows.device)).sum().backward()
        one.step()
    return one.state()


def agree(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> None:
    """Check that two states are the same rows, up to rounding."""
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        torch.testing.assert_close(found[name], value, rtol=1e-5, atol=1e-7, msg=name)

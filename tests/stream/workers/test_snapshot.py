"""The parts of a checkpoint: each part gets back what it gave, and the learner what is nobody else's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from recdistill.errors import UserError
from recdistill.stream.workers.snapshot import REVISION, check_revision, gather, split
from recdistill.typing import Array


class Queue:
    """A part with one array."""

    def __init__(self, values: Array) -> None:
        self.values = values

    def state(self) -> tuple[dict[str, Array], dict[str, Any]]:
        return {"deep/values": self.values}, {"count": len(self.values)}


def test_parts_and_learner_are_told_apart_again() -> None:
    parts = {"store": Queue(np.arange(3)), "joiner": Queue(np.arange(5.0))}
    tensors, states = gather(parts)
    assert states == {"store": {"count": 3}, "joiner": {"count": 5}}
    learner = {"network/w": torch.ones(2), "random": torch.zeros(1)}
    arrays, rest = split(learner | tensors, parts)
    assert rest == learner and set(arrays) == set(parts)
    assert all(np.array_equal(arrays[name]["deep/values"], part.values) for name, part in parts.items())


def test_what_was_gathered_changes_no_more() -> None:
    part = Queue(np.zeros(3))
    tensors, _ = gather({"store": part})
    part.values[:] = 7
    assert tensors["store/deep/values"].tolist() == [0.0, 0.0, 0.0]


@pytest.mark.parametrize("state", [{}, {"revision": REVISION - 1}, {"revision": REVISION + 1}])
def test_another_revision_is_refused(state: dict[str, int]) -> None:
    check_revision(Path("m"), {"revision": REVISION})
    with pytest.raises(UserError, match=rf"^m: checkpoints of revision \d, of which this recdistill reads {REVISION};"):
        check_revision(Path("m"), state)

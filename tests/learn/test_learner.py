"""A loss or gradient that is not finite stops the step before anything was updated, and names the samples."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from recdistill.errors import RecdistillError
from recdistill.learn.learner import Learner
from recdistill.learn.loop import Trainer
from tests.learn.runs import ingested, same_bits, tiny, trainer


@pytest.fixture
def ready(tmp_path: Path) -> Trainer:
    """Return a teacher's trainer that has taken two steps."""
    ingested(tmp_path, tiny())
    found = trainer(tmp_path, tiny(), "teacher")
    for low in (0, 50):
        found.learner.learn(found.builder.build(np.arange(low, low + 50)), torch.ones(50, dtype=torch.bool))
    return found


def spoil_weight(learner: Learner) -> None:
    """Make the loss infinite or NaN."""
    with torch.no_grad():
        next(learner.network.parameters()).fill_(float("inf"))


def spoil_gradient(learner: Learner) -> None:
    """Leave the loss as it is and make one gradient NaN."""
    next(learner.network.parameters()).register_hook(lambda gradient: gradient * float("nan"))


def spoil_rows(learner: Learner) -> None:
    """Leave loss and dense gradients as they are and make the gradient of one embedding's rows infinite."""
    forward = learner.tables[0].forward

    def spoiled(unique: torch.Tensor) -> torch.Tensor:
        rows = forward(unique)
        rows.register_hook(lambda gradient: gradient / 0)
        return rows

    learner.tables[0].forward = spoiled  # type: ignore[method-assign]


@pytest.mark.parametrize("spoil", [spoil_weight, spoil_gradient, spoil_rows])
def test_nothing_is_updated_and_samples_are_named(ready: Trainer, spoil: object) -> None:
    batch, keep = ready.builder.build(np.arange(100, 150)), torch.ones(50, dtype=torch.bool)
    spoil(ready.learner)  # type: ignore[operator]
    before = {name: value.clone() for name, value in ready.learner.state()[0].items()}
    with pytest.raises(RecdistillError, match="step 2: loss or gradient is not finite .*nothing was updated") as caught:
        ready.learner.learn(batch, keep)
    assert str(batch.sample_id[:5].tolist()) in str(caught.value) and "\n" not in str(caught.value)
    assert same_bits(before, ready.learner.state()[0]) and ready.learner.steps == 2


def test_the_run_stops_there_and_keeps_its_last_checkpoint(ready: Trainer) -> None:
    for at in ready.run_to_end():
        if at.done == 400:  # the first block: 200 rows and their replays
            break
    spoil_gradient(ready.learner)
    with pytest.raises(RecdistillError, match="not finite"):
        list(ready.run_to_end())
    assert ready.checkpoints.newest() == 0
    assert sum(len(rows) for rows in ready.predictions.of("teacher", columns=["sample_id"])) == 200

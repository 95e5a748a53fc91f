"""Stopped after any block and taken up by a new process's objects, a model ends as if it had never stopped."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from recdistill.tables.predictions import PredictionLog
from tests.support.runs import finish, same_bits, tiny, trainer
from tests.support.sweeps import swept

SETTINGS = {
    "batch": (),
    "replay and epochs": ("students.light.replay=2", "students.light.replay_window=120", "students.light.epochs=2"),
    "automatic weight": ("students.light.distill.weight=auto",),
    "gate": (
        "students.light.distill.gate.start=teacher-ahead",
        "students.light.distill.gate.margin=0",
        "students.light.distill.gate.window=50",
    ),
    "row-wise adagrad": ("students.light.optimiser=rowwise-adagrad",),
    "adam": ("students.light.optimiser=adam", "students.light.distill.towers=single", "students.light.distill.loss=kl"),
    "sampling": ("students.light.sampling.negative=0.5", "students.light.distill.space=student"),
    "din": ("students.light.kind=din", "students.light.epochs=1"),
    "dcn-v2": ("students.light.kind=dcn-v2",),
    "target-attention": ("students.light.kind=target-attention",),
    "hstu": ("students.light.kind=hstu",),
    "pre-trained": ("students.light.kind=transformer", "students.light.pretrain={at: 0.5, epochs: 1, negatives: 8}"),
    "pruned": (
        "checkpoint_rows=50",
        "students.light.prune={from: {width: 10, hidden: [80, 48]}, start: 0.2, end: 0.7}",
        "students.light.rate_end=0.1",
    ),
    "pruned by the labels' gradient": (
        "checkpoint_rows=50",
        "students.light.kind=target-attention",
        "students.light.prune={from: {width: 12, hidden: [70, 40]}, start: 0.2, end: 0.7, of: labels}",
    ),
    "pruned in depth": (
        "checkpoint_rows=50",
        "students.light.kind=hstu",
        "students.light.prune={from: {width: 8, layers: 4, heads: 2, hidden: [70, 40]}, start: 0.2, end: 0.7}",
    ),
    "layers come and go": (
        "checkpoint_rows=50",
        "students.light.kind=transformer",
        "students.light.alternate={to: {layers: 1, hidden: [16, 8]}, every: 2, shrunken: 1}",
    ),
    "shared rows": ("students.light.rows={most: 8, share: quotient-remainder}", "students.light.epochs=1"),
    "bounded rows": ("students.light.rows={most: 16, admit: 2, narrow: 2}", "students.light.epochs=1"),
    "shrunken and grown": (
        "checkpoint_rows=50",
        "students.light.alternate={to: {hidden: [16, 8], width: 2}, every: 2, shrunken: 1, regrow: split}",
    ),
}
NAME = "light.distilled.s0"


def said(root: Path) -> list[tuple[object, ...]]:
    """Return the student's recorded rows in order of sample id."""
    rows = PredictionLog.open(root / "predictions").scan(columns=["model", "sample_id", "logit_click", "logit_finish"])
    return sorted(rows.collect().filter(model=NAME).rows())


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a run whose teacher has said all it had to say."""
    root = tmp_path_factory.mktemp("taught") / "run"
    finish(root, tiny(), "teacher")
    return root


@pytest.mark.parametrize("what", swept([*SETTINGS], quick=6))
def test_resumed_after_every_block_equals_uninterrupted(taught: Path, tmp_path: Path, what: str) -> None:
    experiment = tiny("checkpoint_rows=150", *SETTINGS[what])
    shutil.copytree(taught, tmp_path / "whole")
    shutil.copytree(taught, tmp_path / "parts")
    whole = trainer(tmp_path / "whole", experiment, NAME)
    for _ in whole.run_to_end():
        pass
    taken_up = 0
    while (latest := trainer(tmp_path / "parts", experiment, NAME).checkpoints.newest()) != whole.plan.blocks - 1:
        part = trainer(tmp_path / "parts", experiment, NAME)
        torch.rand(7)  # whatever else a process drew must not matter
        for _ in part.run_to_end():
            if part.checkpoints.newest() != latest:
                break  # stopped right after a block
        taken_up += 1
    assert taken_up == whole.plan.blocks
    one, other = whole.learner.state(), part.learner.state()
    assert same_bits(one[0], other[0]) and one[1] == other[1]
    assert said(tmp_path / "whole") == said(tmp_path / "parts") and len(said(tmp_path / "whole")) == 400

"""In a stream widths change between two versions; a model that is killed there does the same again."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from recdistill.stream.workers.build import stream_checkpoints
from tests.support.stream_runs import StreamRun, copy_of, experiment_of, models_of, same_tensors

ALTERNATE = "students.light.alternate={to: {width: 2, hidden: [16, 8]}, every: 2, shrunken: 1}"


@pytest.fixture(scope="module")
def fed(tmp_path_factory: pytest.TempPathFactory) -> StreamRun:
    """Return a stream of all rows that nobody followed yet, after a batch phase of 1,500."""
    torch.set_num_threads(1)
    run = StreamRun(tmp_path_factory.mktemp("fed") / "run", experiment_of(ALTERNATE), 1500)
    run.feed_all([2222])
    return run


@pytest.mark.parametrize("point", ["checkpoint.published:2", "model.predicted:13"])
def test_capacity_changes_with_versions_and_after_a_kill_alike(fed: StreamRun, tmp_path: Path, point: str) -> None:
    whole, killed = copy_of(fed, tmp_path / "whole"), copy_of(fed, tmp_path / "killed")
    raw = models_of(whole.experiment)[1]
    want = whole.run(raw)
    assert killed.process(raw, point) == -9
    assert same_tensors(want, killed.run(raw))
    checkpoints = stream_checkpoints(whole.folder, raw.name)
    found = {block: checkpoints.state(block)["learner"]["resizer"]["width"] for block in checkpoints.blocks()}
    assert found == {500: 2, 1000: 4, 1500: 4}  # at its end it is ready for the next version

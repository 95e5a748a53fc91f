"""In a stream widths change between two versions, and rates stay where the batch phase left them; a model that is
killed there does the same again.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch

from recdistill.checkpoint.store import Checkpoints
from recdistill.stream.workers.build import stream_checkpoints
from recdistill.train import build
from recdistill.train.learner import Learner
from tests.support.stream_runs import StreamRun, copy_of, experiment_of, models_of, same_tensors

ALTERNATE = ("students.light.alternate={to: {width: 2, hidden: [16, 8]}, every: 2, shrunken: 1}",)
ALTERNATE += ("students.light.rate_end=0.1",)
Rates = list[tuple[float, float]]  # step by step: of the dense part, of the rows


@pytest.fixture(scope="module")
def fed(tmp_path_factory: pytest.TempPathFactory) -> StreamRun:
    """Return a stream of all rows that nobody followed yet, after a batch phase of 1,500."""
    torch.set_num_threads(1)
    run = StreamRun(tmp_path_factory.mktemp("fed") / "run", experiment_of(*ALTERNATE), 1500)
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


def sizes(run: StreamRun, name: str) -> dict[str, list[int]]:
    """Return the widths that a model's checkpoints of the batch phase and of the stream have."""
    found = {"batch": Checkpoints(run.folder.model(name)), "stream": stream_checkpoints(run.folder, name)}
    return {
        phase: [one.state(block)["learner"]["resizer"]["width"] for block in one.blocks()]
        for phase, one in found.items()
    }


def test_pruned_in_the_batch_phase_it_streams_on_at_its_own_size(tmp_path: Path) -> None:
    prune = "students.light.prune={from: {width: 40, hidden: [80, 48]}, start: 0.0, end: 0.9}"
    run = StreamRun(tmp_path / "run", experiment_of(prune, "checkpoint_rows=250"), 1000)
    run.feed_all([2222])
    raw = models_of(run.experiment)[1]
    newest = run.run(raw)
    assert sizes(run, raw.name) == {"batch": [5, 4], "stream": [4] * 4}
    assert newest.tensors["table/0/weight"].shape[1] == 4 and newest.state["rows"] == 2000


def test_pruned_over_a_streams_versions_and_after_a_kill_alike(tmp_path: Path) -> None:
    prune = "students.light.prune={from: {width: 68, hidden: [80, 48]}, versions: [1, 4]}"
    settings = ("stream.batch_rows=0", "stream.checkpoint_rows=200", "stream.commit_rows=100")
    whole = StreamRun(tmp_path / "whole", experiment_of(prune, *settings), 0)
    whole.feed(1000, end=True)
    killed, raw = copy_of(whole, tmp_path / "killed"), models_of(whole.experiment)[1]
    want = whole.run(raw)
    assert killed.process(raw, "checkpoint.published:3") == -9
    assert sizes(killed, raw.name)["stream"][-1] == 23  # of version 2; the next one is smaller again
    assert same_tensors(want, killed.run(raw))
    assert sizes(whole, raw.name)["stream"][-3:] == [23, 6, 4] and want.tensors["table/0/weight"].shape[1] == 4


@pytest.fixture
def rates(monkeypatch: pytest.MonkeyPatch) -> Iterator[Rates]:
    """Return the rates of every step that is taken from now on."""
    found, learn = Rates(), Learner.learn

    def noted(self: Learner, *given: Any) -> Any:
        (rows,) = {table.rate for table in self.tables}
        found.append((self.optimiser.param_groups[0]["lr"], rows))
        return learn(self, *given)

    monkeypatch.setattr(Learner, "learn", noted)
    yield found


def test_rates_never_rise_over_blocks_and_across_the_hand_over(fed: StreamRun, tmp_path: Path, rates: Rates) -> None:
    run = copy_of(fed, tmp_path / "run")
    raw = models_of(run.experiment)[1]
    shutil.rmtree(run.folder.model(raw.name))
    list(build.trainer_of(run.folder, run.experiment, raw).run_to_end())
    assert len(rates) == 30 and rates[0] == (3e-3, 1e-2)
    run.run(raw)
    stream_checkpoints(run.folder, raw.name).discard(1500)
    run.run(raw)  # goes on from its checkpoint of 1,000 rows
    assert len(rates) == 30 + 30 + 10
    assert all(later[0] <= one[0] and later[1] <= one[1] for one, later in pairwise(rates))
    assert all(found == pytest.approx((3e-4, 1e-3)) for found in rates[30:])

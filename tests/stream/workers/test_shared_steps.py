"""A stream's model by two ranks is that of one process, whatever it learns from; one that is killed goes on."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from recdistill.checkpoint.store import Checkpoint
from recdistill.cli.streams import stream
from recdistill.config.experiment import Experiment
from recdistill.distill.losses import Shares
from recdistill.distributed.objects import decoded, encoded, given_out, to_first
from recdistill.distributed.ranks import Ranks
from recdistill.errors import UserError
from recdistill.runs.folder import RunFolder
from recdistill.runs.jobs import Job
from recdistill.stream.workers.build import run_ranked, stream_checkpoints
from recdistill.stream.workers.shared_steps import KNOWN, REST
from recdistill.testing.killpoints import VARIABLE
from recdistill.train.step import Prepared
from tests.support.batches import make_batch
from tests.support.rank_processes import RankProcess, ended, free_port, met
from tests.support.runs import by_id
from tests.support.stream_runs import ROWS, StreamRun, copy_of, experiment_of, models_of

LOGITS = ("logit_click", "logit_finish")
CANDIDATES = ("candidates.count=3", "candidates.window=70", "students.light.distill.candidates=2")
CANDIDATES += ("students.light.distill.listwise=1",)
LATER = ("labels.window_s=60", "stream.late_s=600", "teacher.rows={most: 4096, admit: 2}")
LATER += ("students.light.alternate={to: {width: 2}, every: 2, shrunken: 1}", "students.light.rate_end=0.1")
SETTINGS = {"candidates": CANDIDATES, "labels that come later": LATER}


def fed(root: Path, *settings: str) -> StreamRun:
    """Return a run with 2,000 rows in batch, the rest in the tables."""
    torch.set_num_threads(1)
    run = StreamRun(root, experiment_of(*settings), 2000)
    run.feed_all([2100, 2101, 2777])
    run.approve(range(4, 6))
    return run


def job_of(run: StreamRun, model: str) -> Job:
    return next(job for job in models_of(run.experiment) if job.name == model)


def close(one: StreamRun, many: StreamRun, model: str) -> None:
    """Fail where a model's predictions, its weights or what it counted differ by more than rounding."""
    job = job_of(one, model)
    whole, ours = (run.predictions().filter(pl.col("model") == model) for run in (one, many))
    assert len(whole) == ROWS and whole["sample_id"].equals(ours["sample_id"])
    for name in [name for name in whole.columns if name in LOGITS]:
        np.testing.assert_allclose(ours[name].to_numpy(), whole[name].to_numpy(), rtol=2e-3, atol=2e-4)
    alone, shared = (ordered(run.newest(job)) for run in (one, many))
    for name, value in alone.tensors.items():
        if name.startswith(("network/", "table/")) and value.is_floating_point():
            torch.testing.assert_close(shared.tensors[name], value, rtol=5e-2, atol=2e-3, msg=name)
    assert shared.state["versions"]["events"] == alone.state["versions"]["events"]
    assert shared.state["learner"].get("resizer") == alone.state["learner"].get("resizer")
    kept = ("rows", "predicted", "learned_from")
    assert {key: shared.state.get(key) for key in kept} == {key: alone.state.get(key) for key in kept}


def ordered(checkpoint: Checkpoint) -> Checkpoint:
    """Return a checkpoint whose tables are in order of their ids."""
    return Checkpoint(by_id(checkpoint.tensors), checkpoint.state)


def followed(runs: list[tuple[Path, str]], ranks: Ranks) -> list[str]:
    """Run teacher and distilled student of each run as one of the ranks."""
    torch.set_num_threads(1)
    done = []
    for root, text in runs:
        experiment = Experiment.model_validate_json(text)
        for job in (models_of(experiment)[0], models_of(experiment)[2]):
            run_ranked(RunFolder(root), experiment, job, ranks)
            ranks.wait()
            done.append(job.name)
    return done


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[StreamRun, StreamRun]]:
    """Return by settings what one process streams, and what two ranks do: one launch for all of them."""
    found = {}
    for name, settings in SETTINGS.items():
        root = tmp_path_factory.mktemp("streamed")
        one = fed(root / "one", *settings)
        found[name] = one, copy_of(one, root / "many")
    met(2, partial(followed, [(many.root, many.experiment.model_dump_json()) for _, many in found.values()]))
    for one, _ in found.values():
        for job in (models_of(one.experiment)[0], models_of(one.experiment)[2]):
            one.run(job)
    return found


@pytest.mark.parametrize("settings", list(SETTINGS))
def test_two_ranks_stream_what_one_process_does(pairs: dict[str, tuple[StreamRun, StreamRun]], settings: str) -> None:
    one, many = pairs[settings]
    for model in ("teacher", "light.distilled.s0"):
        close(one, many, model)
        assert len(many.newest(job_of(many, model)).state["shares"]) == 2


def ranked(run: StreamRun, config: Path, kill: str = "") -> list[tuple[int, str]]:
    """Run the distilled student by two ranks of the command; kill: the point at which the second one is."""
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    words = ["stream", str(config), "--out", str(run.root), "--role", "light.distilled.s0"]
    environments = [shared | {"RANK": str(rank)} | ({VARIABLE: kill} if kill and rank else {}) for rank in range(2)]
    return ended([RankProcess(words, environment) for environment in environments])


def test_ranks_of_a_stream_that_lose_one_go_on_where_they_were(
    pairs: dict[str, tuple[StreamRun, StreamRun]], tmp_path: Path
) -> None:
    """By the command; the teacher's predictions are there. One process goes on from what they wrote, too, and
    what was revoked is unlearned."""
    one, many = pairs["candidates"]
    run = copy_of(many, tmp_path / "run")
    job = models_of(run.experiment)[2]
    for block in stream_checkpoints(run.folder, job.name).blocks()[1:]:  # the last ones are to be made again
        stream_checkpoints(run.folder, job.name).discard(block)
    config = tmp_path / "config.yaml"
    config.write_text(run.experiment.model_dump_json())
    about = {"experiment": run.experiment.model_dump(mode="json"), "data": ""}
    (run.root / "run.json").write_text(json.dumps(about))
    (code, output), (killed, _) = ranked(run, config, "step.learned:4")
    assert killed == -9 and code == 1 and "rank 0 of 2: another rank is gone" in " ".join(output.split()), output
    for code, output in ranked(run, config):
        assert code == 0, output
    close(one, run, job.name)
    checkpoints = stream_checkpoints(run.folder, job.name)
    checkpoints.discard(checkpoints.blocks()[-1])
    assert "shares" not in run.run(job).state
    close(one, run, job.name)
    other = copy_of(one, tmp_path / "other")
    for each in (other, run):
        each.approve([4], "revoked")
    other.run(job)
    for code, output in ranked(run, config):
        assert code == 0, output
    assert run.newest(job).state["learned_from"] == {"teacher": {"5": 500}}
    close(other, run, job.name)


def test_ranks_run_one_model_of_a_stream(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(experiment_of().model_dump_json())
    monkeypatch.setenv("WORLD_SIZE", "2")
    for role in (None, "ingest"):
        with pytest.raises(UserError, match=f"--role {role}: ranks run one model of a stream; name one of teacher, "):
            stream(config, None, str(tmp_path / "run"), None, role)
    with pytest.raises(UserError, match="ranks share a folder"):
        stream(config, None, "s3://bucket/run", None, "teacher")


def _exchanged(ranks: Ranks) -> Any:
    given = given_out(ranks, [{"rank": rank, "at": torch.arange(rank)} for rank in range(3)] if ranks.first else [], [])
    found = to_first(ranks, torch.full((ranks.rank, 2), float(ranks.rank)), [0, 1, 2])
    return given["rank"], given["at"].tolist(), found.tolist()


def test_values_go_from_the_first_rank_to_each_and_rows_come_back() -> None:
    assert met(3, _exchanged) == [(0, [], [[1.0, 1.0], [2.0, 2.0], [2.0, 2.0]]), (1, [0], []), (2, [0, 1], [])]


def test_a_part_of_a_step_arrives_as_it_was() -> None:
    batch = make_batch()
    prepared = Prepared(batch, torch.arange(len(batch)) > 1, batch, shares=Shares(0.25, 1 / 3))
    found = decoded(encoded((prepared, [1, 2])), KNOWN)
    assert found[1] == [1, 2] and found[0].shares == prepared.shares and found[0].undo is None
    assert torch.equal(found[0].keep, prepared.keep)
    for one in (found[0].batch, found[0].candidates):
        assert torch.equal(one.history.index, batch.history.index) and one.rows_per_sample == 1
        assert torch.equal(one.labels, batch.labels) and one.item.inverse.shape == batch.item.inverse.shape
        assert one.vectors.keys() == batch.vectors.keys() and len(one.sequences) == len(batch.sequences)
        assert all(torch.equal(a, b) for a, b in zip(one.columns(), batch.columns(), strict=True))


def test_ranks_know_of_an_idle_stream_long_before_they_give_up() -> None:
    from recdistill.distributed.launch import TIMEOUT

    assert REST * 10 < TIMEOUT

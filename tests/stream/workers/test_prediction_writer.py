"""Predictions into their table: each row once and of the right version, however often the model starts again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from recdistill.checkpoint.store import Checkpoint, Checkpoints
from recdistill.errors import UserError
from recdistill.stream.progress import ModelProgress, read_progress
from recdistill.stream.workers.prediction_writer import PredictionWriter, Versions
from recdistill.tables.predictions import PredictionLog
from tests.support.tables import events

MODEL, WRITER = "light.raw.s0", "light.raw.s0@run/stream"


@pytest.fixture
def log(tmp_path: Path) -> PredictionLog:
    return PredictionLog.create(tmp_path / "predictions", ("click",))


def writer_of(log: PredictionLog, rows: int = 0) -> PredictionWriter:
    """Return a writer whose versions have 10 rows from version 3 on, started after `rows` rows."""
    made = PredictionWriter(log, MODEL, WRITER, {"keep_rates": "{}"}, Versions(3, 10), 5)
    made.start(rows)
    return made


def record(writer: PredictionWriter, first: int, count: int) -> None:
    """Record rows with logit = f(id)."""
    rows = events(range(first, first + count))
    ids = rows["sample_id"].to_numpy()
    writer.record(ids, rows["time"].to_physical().to_numpy(), (ids[:, None] * 0.5).astype(np.float32), {})


def written(log: PredictionLog) -> list[tuple[int, float, int]]:
    """Return (id, logit, version) in the order of the table."""
    return [row for part in log.batches() for row in part.select("sample_id", "logit_click", "version").rows()]


def test_rows_are_of_the_version_that_their_number_gives(log: PredictionLog) -> None:
    writer = writer_of(log)
    record(writer, 0, 7)
    record(writer, 7, 16)
    writer.flush(ModelProgress())
    writer.settle()
    assert written(log) == [(k, k * 0.5, 3 + k // 10) for k in range(23)]
    versions = [commit.metadata["model_version"] for commit in log.commits(-1) if commit.parts]
    assert versions == ["3", "4", "5"]


@pytest.mark.parametrize("back_to", [0, 10, 15])
def test_rows_predicted_again_are_left_out(log: PredictionLog, back_to: int) -> None:
    first = writer_of(log)
    record(first, 0, 15)
    first.flush(ModelProgress())
    first.settle()
    again = writer_of(log, back_to)
    assert again.recorded == 15
    for at in range(back_to, 22, 4):
        record(again, at, min(4, 22 - at))
    again.flush(
        ModelProgress(),
    )
    again.settle()
    assert again.rows == 22 and written(log) == [(k, k * 0.5, 3 + k // 10) for k in range(22)]


def test_the_end_is_a_commit_of_its_own_once_all_rows_are_there(log: PredictionLog) -> None:
    writer = writer_of(log)
    record(writer, 0, 4)
    writer.flush(ModelProgress(end=True))
    writer.settle()
    *_, rows, last = log.commits(-1)
    (one, other) = (read_progress(ModelProgress, commit.metadata) for commit in (rows, last))
    assert one is not None and other is not None and (one.end, other.end) == (False, True)
    assert not last.parts and (other.rows, other.weights_version, last.metadata["model"]) == (4, 3, MODEL)
    assert last.metadata["keep_rates"] == "{}"


def test_it_is_due_when_there_are_enough_rows_or_some_have_waited(
    log: PredictionLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr("recdistill.stream.workers.prediction_writer.time.monotonic", lambda: now[0])
    writer = writer_of(log)
    now[0] = 100.0
    assert not writer.due  # nothing to write
    writer.start(0)
    record(writer, 0, 4)
    now[0] += 0.5
    assert not writer.due
    now[0] += 0.6
    assert writer.due
    writer.start(0)
    record(writer, 0, 5)
    assert not writer.due
    now[0] += 0.3
    assert writer.due


def test_a_checkpoint_is_published_after_the_rows_that_it_follows(log: PredictionLog, tmp_path: Path) -> None:
    writer, checkpoints = writer_of(log), Checkpoints(tmp_path / "checkpoints")
    record(writer, 0, 6)
    writer.flush(ModelProgress())
    writer.publish(checkpoints, Checkpoint({"w": torch.zeros(1)}, {}))
    writer.settle()
    assert checkpoints.blocks() == [6] and log.rows() == 6


def test_what_went_wrong_while_it_wrote_is_raised_by_the_next_call(log: PredictionLog) -> None:
    writer = writer_of(log)
    record(writer, 0, 3)
    writer.log.append(
        log.rows_of(np.array([1]), np.array([0]), np.zeros((1, 1), np.float32)),
        model=MODEL,
        version=3,
        kind="prequential",
        writer="other",
        sequence=0,
    )
    newest = log.path / "_delta_log" / f"{log.version:020d}.json"
    newest.write_text("{broken")
    writer.flush(ModelProgress())
    with pytest.raises(UserError):
        writer.settle()

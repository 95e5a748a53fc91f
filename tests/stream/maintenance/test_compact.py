"""Housekeeping: nothing that anybody reads changes, and old days go."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from recdistill.config.load import load_text
from recdistill.runs.folder import RunFolder
from recdistill.stream.event_log import Journal, read_journals
from recdistill.stream.maintenance import compact
from recdistill.stream.maintenance.compact import Housekeeper
from recdistill.tables.events import EventLog
from recdistill.tables.predictions import PredictionLog
from recdistill.tables.verdicts import VerdictLog
from tests.support.tables import SCHEMA, events, ids_of, said


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunFolder:
    """Thirty samples in ten commits over three days, predictions of two models, and a verdict."""
    monkeypatch.setattr(compact, "SMALL", 4)
    run = RunFolder(tmp_path)
    log, predictions = (
        EventLog.create(run.tables / "events", SCHEMA),
        PredictionLog.create(run.predictions, SCHEMA.tasks),
    )
    for k in range(10):
        log.append(events(range(3 * k, 3 * k + 3)), writer="ingest", sequence=k)
        for model in ("teacher", "light"):
            predictions.append(
                said(range(3 * k, 3 * k + 3)), model=model, version=k, kind="prequential", writer=model, sequence=k
            )
    VerdictLog.create(run.verdicts).append(VerdictLog.row("teacher", 0, "approved"), writer="gate", sequence=0)
    return run


def keeper_of(folder: RunFolder) -> Housekeeper:
    return Housekeeper(folder, load_text("{name: t, data: {}}"), Journal(folder.logs, "compact"))


def test_merging_changes_nothing_that_is_read(folder: RunFolder) -> None:
    predictions = PredictionLog.open(folder.predictions)
    before = {model: pl.concat(predictions.of(model)) for model in ("teacher", "light")}
    followed = ids_of(rows for _, rows in predictions.follow(3))
    assert keeper_of(folder).round(None) == 2
    assert len(predictions.parts()) == 6 and len(EventLog.open(folder.tables / "events").parts()) == 3
    assert all(pl.concat(predictions.of(model)).equals(rows) for model, rows in before.items())
    assert ids_of(rows for _, rows in predictions.follow(3)) == followed
    assert ids_of(EventLog.open(folder.tables / "events").batches()) == list(range(30))
    assert keeper_of(folder).round(None) == 0
    assert [line["event"] for line in read_journals(folder.logs, 9)] == ["compacted"] * 2


def test_old_days_are_let_go_and_who_followed_them_still_can(folder: RunFolder) -> None:
    log = EventLog.open(folder.tables / "events")
    keeper_of(folder).round(1)
    assert ids_of(log.batches()) == list(range(10, 30)) and log.rows() == 20
    assert ids_of(PredictionLog.open(folder.predictions).of("light")) == list(range(10, 30))
    assert ids_of(rows for _, rows in log.follow(-1)) == list(range(30))
    log.append(events(range(30, 33)), writer="ingest", sequence=10)
    assert ids_of(log.batches()) == list(range(10, 33))

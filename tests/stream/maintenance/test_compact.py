"""Housekeeping: nothing that anybody reads changes, and old days go."""

from __future__ import annotations

import subprocess
import sys
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
from tests.support.tables import SCHEMA, events, followed, ids_of, predicted


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
                predicted(range(3 * k, 3 * k + 3)), model=model, version=k, kind="prequential", writer=model, sequence=k
            )
    VerdictLog.create(run.verdicts).append(VerdictLog.row("teacher", 0, "approved"), writer="gate", sequence=0)
    return run


def keeper_of(folder: RunFolder) -> Housekeeper:
    return Housekeeper(folder, load_text("{name: t, data: {}}"), Journal(folder.logs, "compact"))


def test_merging_changes_nothing_that_is_read(folder: RunFolder) -> None:
    predictions = PredictionLog.open(folder.predictions)
    before = {model: pl.concat(predictions.of(model)) for model in ("teacher", "light")}
    before_merging = ids_of(followed(predictions, 3))
    assert keeper_of(folder).round(None) == 2
    assert len(predictions.parts()) == 2 and len(EventLog.open(folder.tables / "events").parts()) == 1
    assert all(pl.concat(predictions.of(model)).equals(rows) for model, rows in before.items())
    assert ids_of(followed(predictions, 3)) == before_merging
    assert ids_of(EventLog.open(folder.tables / "events").batches()) == list(range(30))
    assert keeper_of(folder).round(None) == 0
    assert [line["event"] for line in read_journals(folder.logs, 9)] == ["compacted"] * 2


def test_old_days_are_let_go_and_who_followed_them_still_can(folder: RunFolder) -> None:
    log = EventLog.open(folder.tables / "events")
    keeper_of(folder).round(1)
    assert ids_of(log.batches()) == list(range(10, 30)) and log.rows() == 20
    assert ids_of(PredictionLog.open(folder.predictions).of("light")) == list(range(10, 30))
    assert ids_of(followed(log, -1)) == list(range(30))
    log.append(events(range(30, 33)), writer="ingest", sequence=10)
    assert ids_of(log.batches()) == list(range(10, 33))


ROUNDS = """
import sys
from pathlib import Path
from recdistill.config.load import load_text
from recdistill.runs.folder import RunFolder
from recdistill.stream.event_log import Journal
from recdistill.stream.maintenance import compact

compact.SMALL, compact.EVERY, compact.CUT_EVERY = 2, 0.01, 0.01
folder = RunFolder(Path(sys.argv[1]))
experiment = load_text("{name: t, data: {}, stream: {undo_hours: 0.000001}}")
if sys.argv[2] == "for ever":
    compact.run_compact(folder, experiment, Journal(folder.logs, "compact"))
keeper = compact.Housekeeper(folder, experiment, Journal(folder.logs, sys.argv[2]))
for _ in range(15):
    keeper.round(1)
"""


def housekeeping(folder: RunFolder, name: str) -> subprocess.Popen[str]:
    """Start a process that keeps house."""
    words = [sys.executable, "-c", ROUNDS, str(folder.root), name]
    return subprocess.Popen(words, stderr=subprocess.PIPE, text=True)


def test_processes_that_keep_house_at_once_exclude_each_other(folder: RunFolder) -> None:
    """They merge, let days go, remove files and cut logs, while a writer appends."""
    log, keepers = EventLog.open(folder.tables / "events"), [housekeeping(folder, f"keeper-{k}") for k in range(2)]
    for sequence in range(10, 60):
        log.append(events(range(3 * sequence, 3 * sequence + 3)), writer="ingest", sequence=sequence)
    lines = [keeper.communicate()[1] for keeper in keepers]
    assert [keeper.returncode for keeper in keepers] == [0, 0], lines
    keeper_of(folder).round(1)
    ids = ids_of(log.batches())
    assert ids == list(range(ids[0], 180)) and log.collect(log.scan())["sample_id"].sort().to_list() == ids
    assert "compacted" in "".join(lines) and "let go" in "".join(lines)


def test_a_housekeeper_that_fails_logs_it_and_tries_again(folder: RunFolder) -> None:
    newest = max((folder.predictions / "_delta_log").glob("*.json"))
    whole = newest.read_bytes()
    newest.write_bytes(whole[: len(whole) // 2])
    keeper = housekeeping(folder, "for ever")
    lines = iter(keeper.stderr or ())
    assert "compact: failed  why=" in next(line for line in lines if "failed" in line)
    assert "failed" in next(line for line in lines if "failed" in line) and keeper.poll() is None
    newest.write_bytes(whole)
    assert "table=predictions" in next(line for line in lines if "compacted" in line and "predictions" in line)
    keeper.kill()
    keeper.communicate()

"""A replayed log: the stream gets exactly what the batch phase left, in order, labels when they become known, once."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import polars as pl
import pytest

from recdistill.config.experiment import Experiment
from recdistill.config.load import load_text
from recdistill.data.readers.base import Log
from recdistill.data.readers.factory import open_log
from recdistill.errors import UserError
from recdistill.locks import locked
from recdistill.runs.batch_ingest import hand_over, handed_over, ingest
from recdistill.runs.folder import RunFolder
from recdistill.stream.event_log import Journal
from recdistill.stream.ingest.process import run_ingest
from recdistill.stream.sources.replay import messages_of, run_publish
from recdistill.stream.sources.wire import Outgoing
from recdistill.tables.events import BehaviorLog, EventLog, OutcomeLog
from tests.support.processes import exit_code
from tests.support.sweeps import swept
from tests.support.tables import actions

ROWS, BATCH = 1000, 370
CONFIG = f"""
name: t
data: {{reader: simulator, options: {{rows: {ROWS}, users: 40, items: 60, days: 1.0}}}}
stream: {{batch_rows: {BATCH}, late_s: 1.0e+7, commit_rows: 200, source: {{message_rows: 30}}}}
"""
KILLED = """
import os, signal, sys
from pathlib import Path
from recdistill.config.load import load_text
from recdistill.runs.folder import RunFolder
from recdistill.stream.sources import replay
from recdistill.stream.event_log import Journal
from recdistill.stream.sources.table import TableSource
left = int(sys.argv[3])
whole = TableSource.publish
def counted(self, messages):
    global left
    whole(self, messages)
    left -= 1
    if not left:
        os.kill(os.getpid(), signal.SIGKILL)
TableSource.publish = counted
replay.MAX_MESSAGES = 3
root = Path(sys.argv[1])
replay.run_publish(RunFolder(root), load_text(sys.argv[2]), None, Journal(root / "logs", "publish"))
"""


def experiment(*assignments: str) -> Experiment:
    return load_text(CONFIG, list(assignments))


def rows_of(log: Log) -> pl.DataFrame:
    return pl.concat(log.batches())


def acted(log: Log) -> Log:
    """Return the log with a behavior at the time of every second sample, two at a few."""
    times = rows_of(log)["time"].gather_every(2)
    rows = actions(range(len(times))).with_columns(time=times)
    rows = pl.concat([rows, rows.gather_every(7)]).sort("time", maintain_order=True)

    def behaviors() -> Iterator[pl.DataFrame]:
        yield from (rows[at : at + 64] for at in range(0, len(rows), 64))

    return replace(log, behaviors=behaviors)


def of(messages: list[Outgoing], kind: str) -> pl.DataFrame:
    found = [message.rows for message in messages if message.kind == kind]
    return pl.concat(found) if found else actions([])


@pytest.mark.parametrize("batch", [0, 1, 370, 999])
def test_the_batch_phase_and_the_stream_are_the_log(batch: int) -> None:
    settings = experiment(f"stream.batch_rows={batch}")
    log = acted(open_log(settings.data, None))
    messages = list(messages_of(log, settings))
    assert [message.number for message in messages] == list(range(len(messages)))
    assert [message.end for message in messages] == [False] * (len(messages) - 1) + [True]
    assert max(len(message.rows) for message in messages) <= 30
    whole = rows_of(log)
    assert of(messages, "events").equals(whole[batch:])
    assert log.behaviors is not None
    last = whole["time"][batch - 1] if batch else whole["time"][0] - timedelta(days=1)
    left = pl.concat(log.behaviors()).filter((pl.col("time") > last) & (pl.col("time") <= whole["time"][-1]))
    assert of(messages, "behaviors").equals(left)


def test_a_behavior_comes_before_the_samples_of_its_time_and_later() -> None:
    settings = experiment()
    newest = None
    for message in messages_of(acted(open_log(settings.data, None)), settings):
        if message.kind == "behaviors":
            assert newest is None or message.rows["time"].min() > newest  # type: ignore[operator]
        elif not message.end:
            newest = message.rows["time"].max()


def test_outcomes_are_sent_when_they_are_known_and_not_before() -> None:
    settings = experiment("labels.window_s=600")
    log = open_log(settings.data, None)
    messages = list(messages_of(log, settings))
    samples = of(messages, "events")
    for task in ("click", "finish"):
        assert samples[f"label_{task}"].null_count() == len(samples) == samples[f"label_time_{task}"].null_count()
    sent = of(messages, "outcomes")
    whole = rows_of(log)[BATCH:]
    want = pl.concat(
        [
            whole.filter(pl.col(f"label_{task}") == 1).select(
                "sample_id", task=pl.lit(task), label=f"label_{task}", time=f"label_time_{task}"
            )
            for task in ("click", "finish")
        ]
    )
    assert sent.sort("sample_id", "task").equals(want.sort("sample_id", "task")) and len(sent) > 50
    assert sent["time"].is_sorted()
    known = set[int]()
    newest = None
    for message in messages:
        if message.kind == "events":
            known |= set(message.rows["sample_id"])
            newest = message.rows["time"].max() if len(message.rows) else newest
        elif message.kind == "outcomes":
            assert set(message.rows["sample_id"]) <= known


def test_a_log_ends_as_the_tables_of_the_batch_phase_would(tmp_path: Path) -> None:
    folder, settings = RunFolder(tmp_path), experiment("labels.window_s=600")
    assert ingest(folder, settings, None, lambda rows: None, print, BATCH) == BATCH
    handed = hand_over(folder)
    assert handed == hand_over(folder) == handed_over(EventLog.open(folder.tables / "events"))
    (folder.tables / "handover.json").unlink()  # the table itself has it too
    assert handed == handed_over(EventLog.open(folder.tables / "events"))
    assert EventLog.open(folder.tables / "events").rows(handed.versions["events"]) == handed.rows == BATCH
    journal = Journal(folder.logs, "t")
    run_publish(folder, settings, None, journal)
    assert run_ingest(folder, settings, journal) == ROWS - BATCH
    whole = rows_of(open_log(settings.data, None))
    found = pl.concat(EventLog.open(folder.tables / "events").batches())
    assert found["sample_id"].equals(whole["sample_id"]) and found[:BATCH].equals(whole[:BATCH])
    assert OutcomeLog.open(folder.tables / "outcomes").rows() > 50


def test_without_a_batch_phase_the_tables_are_empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = experiment("labels.window_s=600")
    monkeypatch.setattr("recdistill.runs.batch_ingest.open_log", lambda config, data: acted(open_log(config, data)))
    folder = RunFolder(tmp_path)
    assert ingest(folder, settings, None, lambda rows: None, print, 0) == 0
    for name, log in (("events", EventLog), ("behaviors", BehaviorLog), ("outcomes", OutcomeLog)):
        assert log.open(folder.tables / name).rows() == 0
    assert set(hand_over(folder).versions) == {"events", "behaviors", "outcomes"}


@pytest.mark.parametrize("calls", swept([4, 1]))
def test_killed_it_goes_on_where_it_was(tmp_path: Path, calls: int) -> None:
    settings = experiment("labels.window_s=600")
    killed, whole = RunFolder(tmp_path / "killed"), RunFolder(tmp_path / "whole")
    text = CONFIG.replace("stream: {", "labels: {window_s: 600}\nstream: {")
    for _ in range(2):
        assert exit_code(KILLED, killed.root, text, calls) == -signal.SIGKILL
    for folder in (killed, whole):
        run_publish(folder, settings, None, Journal(folder.logs, "t"))
    for name, log in (("events", EventLog), ("outcomes", OutcomeLog)):
        found, want = (pl.concat(log.open(folder.root / "source" / name).batches()) for folder in (killed, whole))
        assert found.equals(want) and len(found)


def test_a_speed_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that only sleeping moves: the log's hours take as many seconds as the speed asks for."""
    now = [0.0]
    clock = SimpleNamespace(monotonic=lambda: now[0], sleep=lambda seconds: now.__setitem__(0, now[0] + seconds))
    monkeypatch.setattr("recdistill.stream.sources.replay.time", clock)  # the module's own: threads of others sleep too
    settings = experiment("stream.speed=3600")
    whole = rows_of(open_log(settings.data, None))["time"]
    run_publish(RunFolder(tmp_path), settings, None, Journal(tmp_path / "logs", "t"))
    hours = (whole[-1] - whole[BATCH]).total_seconds() / 3600
    assert now[0] == pytest.approx(hours, rel=0.1)


def test_a_second_replay_is_refused(tmp_path: Path) -> None:
    busy = locked(tmp_path / "lock.publish", "not refused")
    with busy, pytest.raises(UserError, match="another process replays this log"):
        run_publish(RunFolder(tmp_path), experiment(), None, Journal(tmp_path / "logs", "t"))

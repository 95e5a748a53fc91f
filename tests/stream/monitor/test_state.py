"""The state of a stream: read from tables alone, each commit once, in bounded memory."""

from __future__ import annotations

import json
import math
from pathlib import Path

import polars as pl
import pytest

from recdistill.stream.event_log import Journal
from recdistill.stream.monitor.history import RECENT_ROWS
from recdistill.stream.monitor.state import GONE, MAX_PLACES, StateReader, read_state
from recdistill.stream.progress import Sums
from recdistill.tables.dead_letters import DeadLetters
from recdistill.tables.verdicts import VerdictLog
from tests.support.streams import RATE, MadeStream, sums_of
from tests.support.tables import events

ENTROPY = -(RATE * math.log(RATE) + (1 - RATE) * math.log(1 - RATE))


@pytest.fixture
def made(tmp_path: Path) -> MadeStream:
    """Return a stream in which nothing happened yet."""
    return MadeStream(tmp_path / "run")


def reader(made: MadeStream) -> StateReader:
    """Return a reader of the stream."""
    return StateReader(made.folder, made.experiment)


def dead(made: MadeStream, *rows: tuple[str, int]) -> None:
    """Commit dead letters, (reason, rows) each."""
    log = DeadLetters.create(made.folder.dead)
    times = events(range(len(rows)))["time"]
    log.append(
        pl.DataFrame(
            {
                "time": times,
                "source": ["0"] * len(rows),
                "kind": ["events"] * len(rows),
                "position": [0] * len(rows),
                "reason": [reason for reason, _ in rows],
                "rows": [count for _, count in rows],
                "payload": [b""] * len(rows),
            }
        ),
        writer="ingest",
        sequence=log.version,
    )


def test_a_run_without_a_stream_has_not_begun(made: MadeStream) -> None:
    state = read_state(made.folder, made.experiment)
    assert (state.level, state.processes, state.models, state.happened) == ("none", [], [], [])


def test_processes_are_as_far_behind_as_their_commits(made: MadeStream) -> None:
    made.step(1)
    made.ingest(30)
    found = {one.name: one for one in read_state(made.folder, made.experiment).processes}
    assert list(found) == ["ingest", "teacher", "light.raw.s0", "light.distilled.s0", "gate"]
    assert [found[name].lag_rows for name in found] == [None, 30, 30, 30, 0]
    assert found["teacher"].lag_seconds == 3 * 86_400
    assert (found["light.distilled.s0"].pending, found["ingest"].memory, found["ingest"].handles) == (3, 200 << 20, 12)


def test_the_gate_is_behind_the_teachers_rows_it_has_not_read(made: MadeStream) -> None:
    reading = reader(made)
    made.step(1)
    made.model("teacher", sums_of(20, 0.28))
    made.model("teacher", sums_of(30, 0.28))
    gate = reading.read(made.wall).processes[-1]
    assert (gate.rows, gate.lag_rows) == (10, 20)
    made.gate()
    gate = reading.read(made.wall).processes[-1]
    assert (gate.rows, gate.lag_rows) == (30, 0)


def test_reading_on_is_reading_whole(made: MadeStream) -> None:
    reading = reader(made)
    for k in range(1, 5):
        made.step(k)
        dead(made, ("wrong", k))
        state = reading.read(made.wall)
    whole = reader(made).read(made.wall)
    assert state == whole and whole.dead == {"wrong": 10}


def test_a_long_history_is_read_in_steps(made: MadeStream, monkeypatch: pytest.MonkeyPatch) -> None:
    for k in range(1, 5):
        made.step(k)
    whole = reader(made).read(made.wall)
    monkeypatch.setattr("recdistill.stream.monitor.state.MAX_COMMITS", 3)
    reading = reader(made)
    first = reading.read(made.wall)
    assert first.unread > 0 and first.processes != whole.processes
    while (state := reading.read(made.wall)).unread:
        pass
    assert state == whole


def test_a_log_without_its_oldest_commits_is_read_from_where_it_begins(made: MadeStream) -> None:
    for k in range(1, 4):
        made.step(k)
    (made.folder.tables / "events" / "_delta_log" / f"{0:020d}.json").unlink()
    assert reader(made).read(made.wall).processes[0].rows == 30


def test_figures_are_of_the_newest_rows(made: MadeStream) -> None:
    made.model("light.raw.s0", sums_of(RECENT_ROWS, 0.5))
    state = reader(made).read(made.wall)
    assert state.models[0].recent.ne == pytest.approx(0.5 / ENTROPY)
    later = sums_of(RECENT_ROWS, 0.5)
    made.model(
        "light.raw.s0",
        Sums(
            *(a + b for a, b in zip(vars(later).values(), vars(sums_of(RECENT_ROWS, 0.3, 0.2)).values(), strict=True))
        ),
    )
    model = reader(made).read(made.wall).models[0]
    assert model.recent.ne == pytest.approx(0.3 / ENTROPY) and model.recent.calibration == pytest.approx(2.0)
    assert model.total.ne == pytest.approx(0.4 / ENTROPY) and model.recent.rows == RECENT_ROWS


def test_pace_is_of_the_last_half_minute(made: MadeStream) -> None:
    for _ in range(100):
        made.ingest(2)
    pace = lambda wall: reader(made).read(wall).processes[0].rows_per_second  # noqa: E731
    assert pace(made.wall) == pytest.approx(2.0)
    assert pace(made.wall + 31) == 0.0
    made.ingest(0, end=True)
    assert pace(made.wall) is None


def test_a_silent_process_with_work_is_stalled_and_one_without_is_idle(made: MadeStream) -> None:
    made.step(1)
    made.ingest(30)
    state = reader(made).read(made.wall + 100)
    assert {one.name: one.status for one in state.processes} == {
        "ingest": "idle",
        "teacher": "stalled",
        "light.raw.s0": "stalled",
        "light.distilled.s0": "stalled",
        "gate": "idle",
    }
    assert state.level == "bad" and "teacher has been silent for 104 s and is 30 rows behind" in state.why[0]
    assert reader(made).read(made.wall).level == "good"


def test_a_stream_whose_processes_all_ended_is_done(made: MadeStream) -> None:
    made.ingest(10, end=True)
    made.model("teacher", sums_of(10, 0.3), end=True)
    assert reader(made).read(made.wall).level == "ended"
    made.gate()
    assert reader(made).read(made.wall).level == "good"
    made.gate(end=True)
    assert reader(made).read(made.wall + 1e6).level == "ended"


def test_verdicts_are_folded(made: MadeStream) -> None:
    made.model("teacher", sums_of(10, 0.3), version=1)
    made.model("teacher", sums_of(20, 0.3), version=2)
    made.gate(
        VerdictLog.row("teacher", 1, "approved", rows=10), VerdictLog.row("teacher", 2, "quarantined", reason="shift 3")
    )
    reading = reader(made)
    state = reading.read(made.wall)
    assert [(one.version, one.verdict, one.rows) for one in state.versions] == [
        (1, "approved", 10),
        (2, "quarantined", 0),
    ]
    assert [(one.version, one.reason) for one in state.bad] == [(2, "shift 3")]
    assert state.level == "look" and "newest version 2 is quarantined" in state.why[0]
    made.gate(VerdictLog.row("teacher", 2, "unquarantined"), VerdictLog.row("teacher", 1, "revoked", reason="by hand"))
    state = reading.read(made.wall)
    assert [(one.version, one.verdict) for one in state.versions] == [(1, "revoked"), (2, "waiting")] and len(
        state.bad
    ) == 1


def test_a_gate_far_behind_costs_bounded_memory_and_still_counts(
    made: MadeStream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("recdistill.stream.monitor.state.MAX_PLACES", 4)
    for k in range(1, 21):
        made.model("teacher", sums_of(10.0 * k, 0.3))
    made.verdicts.mark("gate", 0, {"stream": json.dumps({"predictions": -1})})
    reading = reader(made)
    state = reading.read(made.wall)
    assert len(reading._teacher_rows) <= 5 and state.processes[-1].lag_rows == 200 and MAX_PLACES > 4


def test_dropped_and_dead_are_counted_by_cause(made: MadeStream, monkeypatch: pytest.MonkeyPatch) -> None:
    made.ingest(5, dropped={"late": 3, "duplicate": 2})
    dead(made, ("a", 1), ("b", 5), ("a", 2))
    state = reader(made).read(made.wall)
    assert state.dropped == {"late": 3, "duplicate": 2} and state.dead == {"a": 3, "b": 5}
    monkeypatch.setattr("recdistill.stream.monitor.state.MAX_REASONS", 1)
    assert reader(made).read(made.wall).dead == {"a": 3, "other reasons": 5}


def test_dead_letters_that_retention_took_do_not_stop_the_page(made: MadeStream) -> None:
    dead(made, ("a", 4))
    for part in made.folder.dead.rglob("*.parquet"):
        part.unlink()
    assert reader(made).read(made.wall).dead == {GONE: 1}


def test_what_happened_comes_from_the_journals_and_is_plain_text(made: MadeStream) -> None:
    Journal(made.folder.logs, "gate").write("quarantined", version=3, odd=float("nan"))
    state = reader(made).read(made.wall)
    assert [(one.process, one.event, one.details) for one in state.happened] == [
        ("gate", "quarantined", "version=3  odd=nan")
    ]
    assert json.loads(state.to_json())["happened"][0]["process"] == "gate"

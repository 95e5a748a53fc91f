"""Histories kept for servers against the trainer's own, sample by sample, over random logs, windows, commits and
restarts.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recdistill.config.experiment import Experiment
from recdistill.data.store.label_order import LabelClock
from recdistill.data.store.sample_store import SampleStore, build_store
from recdistill.errors import UserError
from recdistill.runs.batch_ingest import hand_over
from recdistill.runs.folder import RunFolder
from recdistill.serve.histories_file import FILE, HistoriesFile
from recdistill.stream.histories.follower import Follower
from recdistill.stream.histories.store import HistoriesStore
from recdistill.tables.events import BehaviorLog, EventLog, OutcomeLog
from recdistill.tables.schema import EventSchema
from tests.support.processes import exit_code
from tests.support.runs import tiny
from tests.support.tables import SCHEMA, events

STAMP = pl.Datetime("us", "UTC")
START, STEP = 1_700_000_000_000_000, 900_000_000  # us
TIMED = EventSchema(("click",), user_id="string", label_times=("click",))


def samples(draw: np.random.Generator, n: int) -> pl.DataFrame:
    """Return a log of few users; some labels or their times are missing, some are early by a bad clock."""
    time = START + np.sort(draw.integers(0, 40, n)) * STEP + np.arange(n)
    known = [
        None if draw.random() < 0.1 else int(t + draw.integers(-1, 14) * STEP + 1000 * k) for k, t in enumerate(time)
    ]
    label = [None if at is None or draw.random() < 0.15 else float(draw.integers(0, 2)) for at in known]
    return pl.DataFrame(
        {
            "sample_id": draw.permutation(10 * n)[:n],
            "time": pl.Series(time).cast(STAMP),
            "user_id": [f"u{u}" for u in draw.integers(0, 2, n)],
            "item_id": draw.integers(0, 6, n),
            "label_click": pl.Series(label, dtype=pl.Float32),
            "label_time_click": pl.Series(known, dtype=pl.Int64).cast(STAMP),
        }
    )


def follower_of(root: Path, experiment: Experiment, length: int) -> Follower:
    """Return the run's follower, begun."""
    made = Follower(RunFolder(root), experiment, HistoriesStore(root / FILE), length)
    made.begin()
    return made


def served(file: HistoriesFile, user: Any, now: int, length: int) -> list[tuple[Any, int, str]]:
    """Return what a request at `now` us gets: (item, us ago, action), oldest first."""
    past = file.of(str(user))
    if past is None:
        return []
    found = zip(past.items, past.times, past.known, past.actions, strict=True)
    known = [(item, now - round(t * 1e6), action) for item, t, since, action in found if round(since * 1e6) < now]
    return known[-length:]


def trained(store: SampleStore, row: int, length: int, names: list[str]) -> list[tuple[Any, int, str]]:
    """Return the same of the trainer's store."""
    items = pl.read_parquet(store.folder / "items.parquet")["id"]
    seen, now = store.history(np.array([row]), length), int(store.time[row])
    return [
        (items[int(item) - 1], now - int(t), names[action])
        for item, t, action in zip(seen.item, seen.time, seen.action, strict=True)
    ]


@settings(max_examples=25, deadline=None)
@given(
    st.integers(0, 2**32),
    st.integers(2, 14),
    st.integers(1, 6),
    st.sampled_from([None, 1800.0, 7200.0]),
    st.sampled_from(["update", "ignore"]),
    st.integers(0, 14),
    st.booleans(),
)
def test_a_request_gets_the_history_that_the_trainer_gave_the_sample(
    seed: int, n: int, length: int, window: float | None, late: str, batch: int, restart: bool
) -> None:
    """The first `batch` rows are handed over with their labels, the others stream: without labels where there is a
    window; outcomes come when they are known, or with the sample after.
    """
    rows = samples(np.random.default_rng(seed), n)
    experiment = tiny(f"labels.window_s={window or 'null'}", f"labels.late={late}")
    with TemporaryDirectory() as folder:
        root = Path(folder) / "run"
        log = EventLog.create(root / "tables" / "events", TIMED)
        outcomes = OutcomeLog.create(root / "tables" / "outcomes", TIMED) if window else None
        batch = min(batch, n)
        if batch:
            log.append(rows[:batch], writer="ingest", sequence=0)
        hand_over(RunFolder(root))
        whole = EventLog.create(Path(folder) / "whole", TIMED)
        whole.append(rows, writer="ingest", sequence=0)
        want = build_store(Path(folder) / "store", whole, None, None, LabelClock.of(experiment.labels))
        follower, sent = follower_of(root, experiment, length), set[int]()
        for at in range(batch, n):
            now = rows["time"].dt.epoch("us")[at]
            blank = rows[at : at + 1]
            if outcomes is not None:
                blank = blank.with_columns(label_click=pl.lit(None, pl.Float32), label_time_click=pl.lit(None, STAMP))
                known = rows[batch:].filter(pl.col("label_time_click").dt.epoch("us") < now, label_click=1.0)
                new = known.filter(~pl.col("sample_id").is_in(list(sent)))
                sent |= set(new["sample_id"])
                if len(new):
                    made = new.select("sample_id", task=pl.lit("click"), label="label_click", time="label_time_click")
                    outcomes.append(made, writer="t", sequence=at)
            log.append(blank, writer="ingest", sequence=at + 1)
            if restart and at % 3 == 0:
                follower.store.close()
                follower = follower_of(root, experiment, length)
            while follower.step():
                continue
            found = served(HistoriesFile(root), rows["user_id"][at], now, length)
            assert found == trained(want, at, length, ["negative", "positive"])


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 20), st.integers(1, 40), st.integers(1, 5))
def test_behaviors_are_the_events_where_there_are_any(seed: int, n: int, m: int, length: int) -> None:
    draw = np.random.default_rng(seed)
    rows = samples(draw, n).with_columns(user_id=pl.Series(draw.integers(0, 3, n)).cast(pl.String))
    did = pl.DataFrame(
        {
            "user_id": pl.Series(draw.integers(0, 5, m)).cast(pl.String),
            "item_id": draw.integers(3, 12, m),
            "time": pl.Series(START + np.sort(draw.integers(0, 41, m)) * STEP).cast(STAMP),
            "action": draw.choice(["see", "like", "buy"], m),
        }
    )
    with TemporaryDirectory() as folder:
        root = Path(folder) / "run"
        log = EventLog.create(root / "tables" / "events", TIMED)
        log.append(rows, writer="ingest", sequence=0)
        behaviors = BehaviorLog.create(root / "tables" / "behaviors", TIMED)
        behaviors.append(did[: m // 2], writer="t", sequence=0)
        follower = follower_of(root, tiny(), length)
        behaviors.append(did[m // 2 :], writer="t", sequence=1)
        follower.step()
        want = build_store(Path(folder) / "store", log, behaviors)
        last = int(rows["time"].dt.epoch("us").max() or 0)
        for at in np.flatnonzero(want.time >= did["time"].dt.epoch("us").max()).tolist():
            got = served(HistoriesFile(root), rows["user_id"][at], int(want.time[at]), length)
            assert got == trained(want, at, length, want.action_names)
        assert follower.store.about["newest"] * 1e6 == did["time"].dt.epoch("us").max() and last


def run_of(root: Path, n: int) -> tuple[RunFolder, EventLog]:
    """Return a run of n samples of three users, all clicked on."""
    log = EventLog.create(root / "tables" / "events", SCHEMA)
    log.append(events(range(n)), writer="ingest", sequence=0)
    return RunFolder(root), log


def test_no_more_is_kept_of_a_user_than_is_read(tmp_path: Path) -> None:
    _, log = run_of(tmp_path, 60)
    follower = follower_of(tmp_path, tiny(), 4)
    for k in range(60, 90):
        log.append(events([k]), writer="ingest", sequence=k)
        follower.step()
    past = HistoriesFile(tmp_path).of("1")
    assert past is not None and len(past.items) == 5  # the newest sample is known from its own time on
    assert follower.store.counts() == (3, 0)


def test_another_length_and_other_tables_are_read_from_the_start(tmp_path: Path) -> None:
    run_of(tmp_path, 30)
    follower = follower_of(tmp_path, tiny(), 2)
    assert not follower.begin()
    follower.length = 5
    assert follower.begin() and HistoriesFile(tmp_path).length() == 5
    other = tmp_path / "other"
    run_of(other, 3)
    (other / FILE).parent.mkdir()
    os.link(tmp_path / FILE, other / FILE)
    follower.store.file.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    follower.store.close()
    made = Follower(RunFolder(other), tiny(), HistoriesStore(other / FILE), 5)
    assert made.begin() and made.store.counts()[0] == 3


def test_who_is_killed_goes_on_and_nothing_counts_twice(tmp_path: Path) -> None:
    """Killed within a transaction: what it had not committed is read again."""
    _, log = run_of(tmp_path, 30)
    follower = follower_of(tmp_path, tiny(), 50)
    follower.store.close()
    log.append(events(range(30, 60)), writer="ingest", sequence=1)
    code = (
        "import os, signal, sys; from pathlib import Path; from tests.stream.histories.test_follower import *\n"
        "f = follower_of(Path(sys.argv[1]), tiny(), 50)\n"
        "f._forget = lambda: os.kill(os.getpid(), signal.SIGKILL)\n"
        "f.step()"
    )
    assert exit_code(code, tmp_path) == -signal.SIGKILL
    assert len(HistoriesFile(tmp_path).of("0").items) == 10  # type: ignore[union-attr]
    follower = follower_of(tmp_path, tiny(), 50)
    assert follower.step() == 30
    assert len(HistoriesFile(tmp_path).of("0").items) == 20  # type: ignore[union-attr]


def test_a_stream_that_begins_later_is_followed_as_one(tmp_path: Path) -> None:
    """Its samples wait for their outcomes, though the run had not been handed over when the process began."""
    _, log = run_of(tmp_path, 3)
    outcomes = OutcomeLog.create(tmp_path / "tables" / "outcomes", SCHEMA)
    follower = follower_of(tmp_path, tiny("labels.window_s=3600"), 5)
    hand_over(RunFolder(tmp_path))
    log.append(events([3]).with_columns(label_click=pl.lit(None, pl.Float32)), writer="ingest", sequence=1)
    follower.step()
    row = {"sample_id": [3], "task": ["click"], "label": [1.0], "time": events([3])["time"]}
    outcomes.append(pl.DataFrame(row, schema_overrides={"label": pl.Float32}), writer="t", sequence=0)
    follower.step()
    past = HistoriesFile(tmp_path).of("0")
    assert past is not None and list(past.actions) == ["positive", "positive"]


def test_what_finds_no_sample_is_counted(tmp_path: Path) -> None:
    _, log = run_of(tmp_path, 3)
    outcomes = OutcomeLog.create(tmp_path / "tables" / "outcomes", SCHEMA)
    hand_over(RunFolder(tmp_path))
    follower = follower_of(tmp_path, tiny("labels.window_s=1", "stream.late_s=1"), 5)
    row = {"sample_id": [77], "task": ["click"], "label": [1.0], "time": events([3])["time"]}
    outcomes.append(pl.DataFrame(row, schema_overrides={"label": pl.Float32}), writer="t", sequence=0)
    log.append(events([30]), writer="ingest", sequence=1)
    follower.step()
    assert follower.store.about["dropped"] == {"outcome of no sample": 1}


def test_a_log_without_users_has_no_histories_to_keep(tmp_path: Path) -> None:
    EventLog.create(tmp_path / "tables" / "events", EventSchema(("click",), has_user=False))
    with pytest.raises(UserError, match="no histories to keep: it has no users or no times"):
        Follower(RunFolder(tmp_path), tiny(), HistoriesStore(tmp_path / FILE), 5)


def test_without_a_file_a_server_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no histories there; fill them, and keep them filled, with: recdistill hist"):
        HistoriesFile(tmp_path)
    (tmp_path / "past").write_bytes(b"nothing of SQLite's" * 100)
    with pytest.raises(UserError, match="cannot be read"):
        HistoriesFile(tmp_path / "past")

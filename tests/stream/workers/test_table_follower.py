"""The input tables followed: samples after what was known before them, ahead in a thread, to the end of all readers."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from recdistill.data.store.live_store import LiveStore
from recdistill.runs.folder import RunFolder
from recdistill.stream.progress import IngestProgress, to_metadata
from recdistill.stream.workers.table_follower import TableFollower
from recdistill.tables.events import BehaviorLog, EventLog, OutcomeLog
from tests.support.arrivals import BATCH, outcomes, waiting_run
from tests.support.tables import SCHEMA, actions, events

SECOND = 1_000_000


class Tables:
    """The tables of a run after its hand-over, as ingest writes them."""

    def __init__(self, root: Path) -> None:
        self.folder: RunFolder = waiting_run(root)
        self.events = EventLog.open(self.folder.tables / "events")
        self.behaviors = BehaviorLog.open(self.folder.tables / "behaviors")
        self.outcomes = OutcomeLog.open(self.folder.tables / "outcomes")
        self.start = {"events": self.events.version, "behaviors": 0, "outcomes": 0}
        self.sequence = 0

    def commit(self, ids: range, **more: object) -> None:
        """Commit samples; `seen` are the other tables as they stand now."""
        self.sequence += 1
        seen = {"behaviors": self.behaviors.version, "outcomes": self.outcomes.version}
        progress = IngestProgress(seen=seen, watermark=self.sequence, **more)  # type: ignore[arg-type]
        self.events.append(
            events(ids), writer="ingest", sequence=self.sequence, new_ids=True, metadata=to_metadata(progress)
        )

    def follower(self) -> TableFollower:
        store = LiveStore(self.folder.root / "live", SCHEMA, None, behaviors=True)
        return TableFollower(self.folder.tables, store, self.start)


@pytest.fixture
def tables(tmp_path: Path) -> Tables:
    return Tables(tmp_path / "run")


def ids_of(follower: TableFollower) -> list[int]:
    return list(follower.store.rows["sample_id"]) if len(follower.store) else []


def test_commits_are_read_one_by_one_and_none_twice(tables: Tables) -> None:
    follower = tables.follower()
    assert follower.read() is None
    for first in (10, 13, 16):
        tables.commit(range(first, first + 3))
    assert [follower.read(), follower.read()] == [3, 3] and ids_of(follower) == list(range(10, 16))
    tables.events.mark("compact", 0, {})
    tables.commit(range(19, 20))
    assert [follower.read() for _ in range(4)] == [3, 0, 1, None] and ids_of(follower) == list(range(10, 20))


def test_a_sample_sees_what_the_other_tables_held_when_it_came_and_no_more(tables: Tables) -> None:
    tables.outcomes.append(outcomes([3, 4]), writer="ingest", sequence=0)
    tables.commit(range(10, 12))
    tables.outcomes.append(outcomes([5]), writer="ingest", sequence=1)
    tables.behaviors.append(actions([1]), writer="ingest", sequence=0)
    tables.commit(range(12, 14))
    follower = tables.follower()
    follower.read()
    taken = follower.take_outcomes()
    assert taken["sample_id"].to_list() == [3, 4] and taken.schema["task"] == pl.Int8
    assert follower.versions["outcomes"] == 1 and follower.versions["behaviors"] == 0
    follower.read()
    assert follower.take_outcomes()["sample_id"].to_list() == [5] and len(follower.take_outcomes()) == 0
    assert follower.versions["behaviors"] == 1


def test_it_has_ended_when_every_reader_has_and_all_is_read(tables: Tables) -> None:
    follower = tables.follower()
    tables.commit(range(10, 11), reader=0, readers=2, end=True)
    follower.read()
    assert not follower.ended()
    tables.commit(range(11, 12), reader=1, readers=2, end=True)
    assert not follower.ended()  # not read yet
    follower.read()
    assert follower.ended()
    tables.events.mark("compact", 0, {})
    assert not follower.ended()
    follower.read()
    assert follower.ended()


def test_looking_ahead_finds_the_newest_event_time_before_it_is_read(tables: Tables) -> None:
    follower = tables.follower()
    tables.commit(range(10, 12))
    tables.commit(range(12, 13))
    assert follower.look_ahead() == 2 and len(follower.store) == 0
    follower.read()
    assert follower.look_ahead() == int(events([11])["time"].to_physical()[0])


def test_it_resumes_after_the_versions_of_a_checkpoint(tables: Tables) -> None:
    for first in (10, 12, 14):
        tables.commit(range(first, first + 2), end=first == 14)
    first = tables.follower()
    first.read()
    first.settle()
    again = tables.follower()
    again.resume({**first.versions, "predictions": 99})
    assert again.versions == first.versions and not again.ended()
    assert [again.read(), again.read(), again.read()] == [2, 2, None] and again.ended()
    assert ids_of(again) == [12, 13, 14, 15] and BATCH == 10

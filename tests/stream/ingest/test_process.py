"""Ingest: each row once in effect, whenever it is killed; what cannot be taken is reported, kept and counted,
and stops nothing.
"""

from __future__ import annotations

import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest

from recdistill.errors import UserError
from recdistill.locks import locked
from recdistill.runs.folder import RunFolder
from recdistill.stream.event_log import read_journals
from recdistill.stream.ingest import process
from recdistill.stream.ingest.process import run_ingest
from recdistill.stream.sources.local_nats import local_nats
from recdistill.stream.sources.wire import Outgoing
from recdistill.tables.dead_letters import DeadLetters
from recdistill.tables.events import EventLog
from recdistill.testing.killpoints import KILL_POINTS
from tests.support.arrivals import (
    BATCH,
    END,
    experiment,
    journal,
    mixed,
    outcomes,
    packed,
    reported,
    result,
    send,
    waiting_run,
)
from tests.support.brokers import channel, outgoing
from tests.support.processes import exit_code
from tests.support.programs import needs
from tests.support.sweeps import swept
from tests.support.tables import SCHEMA, actions, events, ids_of

MESSAGES = 6  # of a micro-batch
RUN = f"""
import sys
from pathlib import Path
from recdistill.stream.ingest import process as ingest
from tests.support.arrivals import experiment, journal
from recdistill.runs.folder import RunFolder
ingest.MAX_MESSAGES = {MESSAGES}
folder = RunFolder(Path(sys.argv[1]))
ingest.run_ingest(folder, experiment(sys.argv[2], "stream.commit_rows=1"), journal(folder))
"""


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with local_nats(tmp_path_factory.mktemp("broker")) as address:
        send(address, mixed())
        yield address


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, url: str) -> dict[str, list[tuple[object, ...]]]:
    return result(taken(tmp_path_factory.mktemp("whole"), url))


def taken(root: Path, url: str, *assignments: str) -> RunFolder:
    folder = waiting_run(root)
    run_ingest(folder, experiment(url, *assignments), journal(folder))
    return folder


@needs("nats-server")
def test_good_rows_arrive_in_order_and_bad_ones_alone_are_left_out(tmp_path: Path, url: str) -> None:
    folder = taken(tmp_path, url)
    log = EventLog.open(folder.tables / "events")
    assert sorted(ids_of(log.batches())) == list(range(60))
    assert [k for k in ids_of(log.batches()) if k != 29] == [k for k in range(60) if k != 29]
    found = result(folder)
    assert [row[0] for row in found["behaviors"]] == list(range(10, 60)) == [row[0] for row in found["outcomes"]]
    progress = reported(folder)
    assert (progress.rows, progress.end, progress.published, set(progress.seen)) == (
        50,
        True,
        1.7e9,
        {"behaviors", "outcomes"},
    )
    assert progress.watermark == int(events([59])["time"].to_physical()[0])  # not that of the clock that is wrong
    assert progress.dropped == {
        "invalid": 3 + 1 + 3,
        "duplicate": 2,
        "relabelled": 1,
        "unreadable": 1 + 5 + 3,
        "late": 1,
    }


@needs("nats-server")
def test_dead_letters_hold_the_reason_and_what_it_was(tmp_path: Path, url: str) -> None:
    dead = pl.concat(DeadLetters.open(taken(tmp_path, url).dead).batches()).sort("position")
    reasons = dead["reason"].to_list()
    for reason in (
        "no Arrow IPC stream",
        "column 'time': lies in the future",
        "column 'sample_id': must not be empty",
        "column 'label_click': must be 0, 1 or empty",
        "column 'sample_id': is in the table with another label",
        "column 'feature_device' is missing",
        "column 'feature_devise' is not in the table's schema; did you mean 'feature_device'?",
        "column 'time': more than stream.late_s behind",
        "column 'item_id': must not be empty",
        "column 'task': must be one of click",
        "column 'label': must be 0 or 1",
    ):
        assert sum(text.startswith(reason) for text in reasons) == 1, reason
    assert set(dead["source"]) == {"s"} and dead["rows"].sum() == 3 + 1 + 1 + 5 + 3 + 1 + 1 + 2 + 1
    late = dead.filter(pl.col("reason").str.contains("late_s"))["payload"][0]
    assert pl.read_ipc_stream(late)["sample_id"].to_list() == [1000]
    assert dead.filter(pl.col("reason").str.contains("no Arrow"))["payload"][0] == b"poison"


@needs("nats-server")
@pytest.mark.parametrize(
    "point",
    swept(["table.commit", *(point for point in KILL_POINTS if point.startswith("ingest.")), "table.files"], quick=2),
)
def test_killed_anywhere_it_ends_with_the_same_tables(
    tmp_path: Path, url: str, whole: dict[str, object], point: str
) -> None:
    folder = waiting_run(tmp_path / "killed")
    for count in (1, 3):
        assert exit_code(RUN, folder.root, url, point=f"{point}:{count}") == -signal.SIGKILL
    run_ingest(folder, experiment(url), journal(folder))
    assert result(folder) == whole


@needs("nats-server")
def test_micro_batches_of_any_size_give_the_same_rows(
    tmp_path: Path, url: str, whole: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "MAX_MESSAGES", 1)
    assert result(taken(tmp_path, url, "stream.commit_rows=1")) == whole


@needs("nats-server")
def test_a_stream_that_ended_stays_ended(tmp_path: Path, url: str) -> None:
    folder = taken(tmp_path, url)
    before = EventLog.open(folder.tables / "events").version
    assert run_ingest(folder, experiment("nats://127.0.0.1:9"), journal(folder)) == 50
    assert EventLog.open(folder.tables / "events").version == before


@needs("nats-server")
def test_a_reason_is_reported_once_however_many_messages_have_it(tmp_path: Path) -> None:
    with local_nats(tmp_path) as address:
        changed = [packed("events", events([k]).drop("feature_device")) for k in range(300)]
        flood = [packed("events", events([k]).with_columns(label_click=pl.lit(3, pl.Float32))) for k in range(300)]
        send(address, [*changed, packed("events", events([20])), *flood, packed("events", events([21])), END])
        folder = taken(tmp_path / "run", address)
    assert sorted(ids_of(EventLog.open(folder.tables / "events").batches())) == [*range(BATCH), 20, 21]
    reasons = [line["reason"] for line in read_journals(folder.logs, 1000) if line["event"] == "dead letters"]
    assert (
        len(reasons) == 2
        and reasons[0].startswith("column 'feature_device' is missing")
        and reasons[1].startswith("column 'label_click': must be")
    )
    assert reported(folder).dropped == {"unreadable": 300, "invalid": 300}
    assert DeadLetters.open(folder.dead).rows() == 600


@needs("nats-server")
def test_a_second_process_is_refused(tmp_path: Path, url: str) -> None:
    folder = waiting_run(tmp_path)
    with (
        locked(folder.root / "lock.ingest", "not refused"),
        pytest.raises(UserError, match="another process is ingest of this run"),
    ):
        run_ingest(folder, experiment(url), journal(folder))


@needs("nats-server")
def test_without_a_hand_over_nothing_is_taken(tmp_path: Path, url: str) -> None:
    folder = RunFolder(tmp_path)
    EventLog.create(folder.tables / "events", SCHEMA)
    with pytest.raises(UserError, match="there was no hand-over from batch to stream"):
        run_ingest(folder, experiment(url), journal(folder))


@pytest.mark.parametrize("kind", ["table", "kafka"])
def test_other_sources_fill_the_same_tables(tmp_path: Path, kind: str) -> None:
    with channel(kind, tmp_path) as made:
        with made.open() as source:
            source.create(SCHEMA)
            source.publish([*outgoing(4, 30), Outgoing(34, "outcomes", outcomes(range(12, 20)))])
            source.publish([Outgoing(35, "events", events([]), end=True)])
        folder = waiting_run(tmp_path)
        run_ingest(folder, experiment(made.url, f"stream.source.kind={kind}", "stream.late_s=1e+9"), journal(folder))
    ids = [k for message in outgoing(4, 30) if message.kind == "events" for k in message.rows["sample_id"]]
    assert sorted(ids_of(EventLog.open(folder.tables / "events").batches())) == sorted([*range(BATCH), *ids])
    found = result(folder)
    assert len(found["outcomes"]) == 8 and len(found["behaviors"]) == 30
    assert reported(folder).end and reported(folder).dropped == {}


@needs("nats-server")
def test_an_action_that_no_table_takes_is_a_dead_letter(tmp_path: Path) -> None:
    folder = waiting_run(tmp_path / "run")
    shutil.rmtree(folder.tables / "behaviors")
    with local_nats(tmp_path) as address:
        send(address, [packed("behaviors", actions([1])), packed("events", events([20])), END])
        run_ingest(folder, experiment(address), journal(folder))
    assert reported(folder).dropped == {"unreadable": 1}

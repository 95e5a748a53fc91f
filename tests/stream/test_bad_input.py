"""What goes wrong around a stream: brokers that go and come, clocks that are wrong, messages sent twice,
disks that fill up.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from confluent_kafka import Producer

from recdistill.errors import UserError
from recdistill.runs.folder import RunFolder
from recdistill.stream.event_log import read_journals
from recdistill.stream.ingest.admission import AdmissionFilter
from recdistill.stream.ingest.dead_letters import DeadLetterBuffer
from recdistill.stream.ingest.micro_batch import MicroBatch
from recdistill.stream.ingest.process import Ingest, run_ingest
from recdistill.stream.sources.local_nats import local_nats
from recdistill.stream.sources.wire import Outgoing, Reader
from recdistill.tables.events import BehaviorLog, EventLog
from tests.support.arrivals import BATCH, END, experiment, journal, packed, reported, send, waiting_run
from tests.support.brokers import Channel, channel, outgoing
from tests.support.paths import ROOT
from tests.support.programs import needs
from tests.support.tables import SCHEMA, actions, events, ids_of

PATIENCE = 300.0  # seconds until a test gives up
COMMITS = 12


def until(happened: Callable[[], bool]) -> None:
    """Wait for an event, up to a bound."""
    end = time.monotonic() + PATIENCE
    while not happened():
        assert time.monotonic() < end
        time.sleep(0.02)


@contextmanager
def ingesting(folder: RunFolder, *settings: str) -> Iterator[None]:
    """Run ingest while the block runs; leaving it waits for its end."""
    failed: list[Exception] = []

    def work() -> None:
        try:
            run_ingest(folder, experiment(*settings), journal(folder))
        except UserError as error:
            failed.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    yield
    thread.join(PATIENCE)
    assert not failed and not thread.is_alive()


def logged(folder: RunFolder, event: str) -> int:
    """Return how often the journals hold an event."""
    return sum(line["event"] == event for line in read_journals(folder.logs, 1000)) if folder.logs.exists() else 0


@needs("nats-server")
def test_a_broker_that_is_down_twice_is_read_on_when_it_is_back(tmp_path: Path) -> None:
    folder = waiting_run(tmp_path / "run")
    with local_nats(tmp_path) as url:
        send(url, [packed("events", events(range(10, 20)))])
    with ingesting(folder, url):
        until(lambda: logged(folder, "waiting for the broker") == 1)
        with local_nats(tmp_path) as again:
            assert again == url
            until(lambda: EventLog.open(folder.tables / "events").rows() == 20)
        until(lambda: logged(folder, "waiting for the broker") == 2)
        with local_nats(tmp_path):
            send(url, [packed("events", events(range(20, 30))), END])
            until(lambda: logged(folder, "ended") == 1)
    assert ids_of(EventLog.open(folder.tables / "events").batches()) == list(range(30))
    assert logged(folder, "broker back") == 2


def now_rows(*ahead: timedelta) -> pl.DataFrame:
    """Return samples that happened so much later than now."""
    times = pl.Series([datetime.now(UTC) + lead for lead in ahead]).cast(pl.Datetime("us", "UTC"))
    return events(range(100, 100 + len(ahead))).with_columns(time=times)


def test_a_clock_that_is_wrong_moves_nothing_for_the_others(tmp_path: Path) -> None:
    log = EventLog.create(tmp_path / "events", SCHEMA)
    minute = timedelta(minutes=1)
    taken, reasons, dropped = AdmissionFilter(log, 600.0, 0).split(
        now_rows(-3 * minute, 2 * minute, 180 * minute, -3 * minute, -30 * minute)
    )
    assert taken.tolist() == [True, True, False, True, False]
    assert str(reasons[2]).startswith("column 'time': lies in the future; check the producer's clock")
    assert str(reasons[4]).startswith("column 'time': more than stream.late_s behind the newest")
    assert (dropped["invalid"], dropped["late"]) == (1, 1)


@needs("nats-server")
def test_a_message_sent_twice_gives_samples_once_and_behaviors_twice(tmp_path: Path) -> None:
    """A behavior has no id to know it by: one that is sent twice happened twice."""
    folder = waiting_run(tmp_path / "run")
    sample, behavior = packed("events", events(range(10, 15))), packed("behaviors", actions(range(10, 15)))
    with local_nats(tmp_path) as url:
        send(url, [sample, behavior, sample, behavior, sample, END])
        run_ingest(folder, experiment(url), journal(folder))
    assert ids_of(EventLog.open(folder.tables / "events").batches()) == list(range(15))
    assert reported(folder).dropped == {"duplicate": 10} and BehaviorLog.open(folder.tables / "behaviors").rows() == 10


def test_a_message_of_100_mb_is_refused_cut_for_the_dead_letters_and_passed(tmp_path: Path) -> None:
    """It arrives whole: were it refused by the reader's library, the partition would stand still for ever."""
    batch, readers = MicroBatch(), {"events": Reader(SCHEMA.columns())}
    with channel("kafka", tmp_path) as made, made.open() as source:
        producer = Producer({"bootstrap.servers": made.url, "message.max.bytes": 200 << 20, "log_level": 0})
        for partition, payload in enumerate((bytes(100 << 20), packed("events", events(range(10, 15)))[1])):
            producer.produce("s.events", payload, partition=partition)
            assert producer.flush(PATIENCE) == 0
        offsets: dict[str, int] = {}
        for _ in range(100):
            for message in source.fetch(offsets, 10, 0.2):
                batch.take(message, readers)
                offsets = batch.offsets({})
            if len(offsets) == 2:
                break
    (message, error), *_ = batch.unread
    dead = DeadLetterBuffer({})
    dead.whole(message, error.reason, error.rows)
    assert (
        error.reason == "a message of more than 64 MiB; send fewer rows at a time"
        and len(dead.rows[0]["payload"]) == 1 << 20
    )
    assert offsets == {"s.events/0": 1, "s.events/1": 1} and batch.of("events")[0].equals(events(range(10, 15)))


def test_a_second_ingest_that_no_lock_keeps_out_is_refused_by_name(tmp_path: Path) -> None:
    """On another machine, whose file system shares no locks: it finds commits that are not its own."""
    folder = waiting_run(tmp_path)
    one, other = (Ingest(folder, experiment("nats://127.0.0.1:9"), journal(folder)) for _ in range(2))
    message = Outgoing(0, "events", events(range(10, 15)))
    with Channel("table", "", tmp_path).open() as source:
        source.create(SCHEMA)
        source.publish([message])
        (arrived,) = [message for message in source.fetch({}, 10, 1.0) if len(message.payload)]
    for ingest in (one, one):
        batch = MicroBatch()
        batch.take(arrived, ingest.readers)
        ingest._commit(batch, False)
    batch = MicroBatch()
    batch.take(arrived, other.readers)
    with pytest.raises(UserError, match=f"^{folder.tables}/events: another process ingests into this run"):
        other._commit(batch, False)
    assert ids_of(EventLog.open(folder.tables / "events").batches()) == list(range(15))


def newer(path: Path, protocol: dict[str, object]) -> None:
    """Let a table need a newer reader or writer from its next commit on, as another tool does that upgrades it."""
    version = len(list((path / "_delta_log").glob("*.json")))
    (path / "_delta_log" / f"{version:020d}.json").write_text(json.dumps({"protocol": protocol}) + "\n")


@pytest.mark.parametrize(
    "protocol",
    [
        {"minReaderVersion": 99, "minWriterVersion": 99},
        {"minReaderVersion": 3, "minWriterVersion": 7, "readerFeatures": ["fresh"], "writerFeatures": ["fresh"]},
    ],
)
def test_a_table_of_a_newer_format_is_refused_by_name(tmp_path: Path, protocol: dict[str, object]) -> None:
    made = Channel("table", "", tmp_path)
    with made.open() as source:
        source.create(SCHEMA)
        source.publish(outgoing(0, 3))
        newer(tmp_path / "source" / "events", protocol)
    fault = f"^{tmp_path}/source/events: the table cannot be read at version 2: [^\n]*$"
    with made.open() as source, pytest.raises(UserError, match=fault):
        source.fetch({}, 10, 0.1)


def test_a_table_that_needs_a_newer_writer_is_not_called_in_use(tmp_path: Path) -> None:
    log = EventLog.create(tmp_path / "events", SCHEMA)
    newer(log.path, {"minReaderVersion": 1, "minWriterVersion": 7, "writerFeatures": ["fresh"]})
    with pytest.raises(UserError, match=f"^{log.path}: cannot write: [^\n]*nsupported[^\n]*fresh[^\n]*$"):
        log.append(events([1]), writer="w", sequence=0)


TAKE = """
import sys
from pathlib import Path
from recdistill.cli.app import guarded
from recdistill.runs.folder import RunFolder
from recdistill.stream.ingest import process
from recdistill.tables.events import EventLog
from tests.support.arrivals import experiment, journal, waiting_run
from tests.support.tables import ids_of
process.MAX_MESSAGES = 1
root = Path("disk/run")
folder = RunFolder(root) if root.exists() else waiting_run(root)
settings = ("stream.source.kind=table", "stream.source.path=source", "stream.commit_rows=1", "stream.late_s=1e+9")
try:
    guarded(lambda: int(process.run_ingest(folder, experiment("x", *settings), journal(folder)) < 0))
finally:
    ids = ids_of(EventLog.open(folder.tables / "events").batches())
    print(len(ids), sorted(ids) == list(range(len(ids))))
"""


def test_a_disk_that_fills_up_stops_ingest_in_one_line_and_with_room_it_goes_on(tmp_path: Path) -> None:
    """On a disk in memory that grows after a while."""
    (tmp_path / "disk").mkdir()
    with Channel("table", "", tmp_path).open() as source:
        source.create(SCHEMA)
        for k in range(COMMITS):
            source.publish([Outgoing(k, "events", events(range(BATCH + 20 * k, BATCH + 20 * k + 20)))])
        source.publish([Outgoing(COMMITS, "events", events([]), end=True)])
    within = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c"]
    script = (
        'mount -t tmpfs -o size=120k tmpfs disk && { "$0" -c "$1"; echo "first $?"; '
        'mount -o remount,size=50m disk; "$0" -c "$1"; '
        'echo "second $?"; }'
    )
    try:
        subprocess.run([*within, "mount -t tmpfs tmpfs disk"], check=True, capture_output=True, cwd=tmp_path)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("this machine lets nobody mount a disk in memory")
    done = subprocess.run(
        [*within, script, sys.executable, TAKE],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    first, code, second, last = done.stdout.splitlines()
    assert (code, last, second) == ("first 2", "second 0", f"{BATCH + 20 * COMMITS} True"), done.stderr
    assert first.endswith(" True") and BATCH <= int(first.split()[0]) < BATCH + 20 * COMMITS
    errors = [line for line in done.stderr.splitlines() if line.startswith("recdistill: ")]
    assert len(errors) == 1 and "Traceback" not in done.stderr
    assert errors[0].startswith("recdistill: disk full: free space and run the same command again")

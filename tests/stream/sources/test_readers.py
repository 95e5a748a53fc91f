"""Several processes that split the partitions of a Kafka source: each row once, whoever is killed; the end
when all have ended.
"""

from __future__ import annotations

import itertools
import signal
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from confluent_kafka import Producer

from recdistill.config.experiment import Experiment
from recdistill.config.load import load_text
from recdistill.data.store.live_store import LiveStore
from recdistill.errors import UserError
from recdistill.runs.batch_ingest import hand_over
from recdistill.runs.folder import RunFolder
from recdistill.stream.event_log import read_journals
from recdistill.stream.ingest import process
from recdistill.stream.ingest.process import ingests, readers_of, run_ingest
from recdistill.stream.sources import kafka
from recdistill.stream.sources.factory import open_source
from recdistill.stream.sources.kafka import KafkaSource
from recdistill.stream.workers.table_follower import TableFollower
from recdistill.tables.events import EventLog
from recdistill.testing.killpoints import KILL_POINTS
from tests.support.arrivals import BATCH, END, Arrival, experiment, journal, outcomes, packed, waiting_run
from tests.support.brokers import kafka_cluster
from tests.support.processes import exit_code
from tests.support.sweeps import swept
from tests.support.tables import SCHEMA, actions, events, ids_of

READERS, PARTITIONS, SAMPLES = 2, 4, 240
RUN = """
import sys
from pathlib import Path
from tests.stream.sources.test_readers import RunFolder, run_ingest, shared, journal, process
process.MAX_MESSAGES = 3
folder = RunFolder(Path(sys.argv[1]))
run_ingest(folder, shared(sys.argv[2]), journal(folder), int(sys.argv[3]))
"""


def shared(url: str, *assignments: str) -> Experiment:
    return experiment(
        url,
        "stream.source.kind=kafka",
        f"stream.source.readers={READERS}",
        "stream.late_s=1.0e+9",
        "stream.commit_rows=1",
        *assignments,
    )


def produce(url: str, arrivals: Sequence[tuple[int, Arrival]]) -> None:
    """Send messages to partitions, and an end to every one."""
    producer = Producer({"bootstrap.servers": url, "log_level": 0})
    for partition, (kind, payload) in arrivals:
        producer.produce(f"s.{kind}", payload, partition=partition)
    for kind in ("events", "behaviors", "outcomes"):
        for partition in range(PARTITIONS):
            producer.produce(f"s.{kind}", END[1], partition=partition)
    assert producer.flush(120) == 0


def everything_twice() -> list[tuple[int, Arrival]]:
    """Return samples, each twice: on a partition of either reader, some a little later; and their
    outcomes, once.
    """
    draw, sent = np.random.default_rng(0), []
    for at in range(BATCH, BATCH + SAMPLES, 4):
        ids = range(at, at + 4)
        one, other = draw.choice(2, 2) * 2 + [0, 1]
        sent += [
            (float(at), int(one), packed("events", events(ids))),
            (at + 30 * draw.random(), int(other), packed("events", events(ids))),
        ]
        sent += [
            (float(at), int(one), packed("behaviors", actions(ids))),
            (at + 1.0, int(other), packed("outcomes", outcomes(ids))),
        ]
    return [(partition, arrival) for _, partition, arrival in sorted(sent, key=lambda one: one[0])]


@pytest.fixture
def url() -> Iterator[str]:
    with kafka_cluster() as address:
        yield address


@pytest.fixture(autouse=True)
def small_micro_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "MAX_MESSAGES", 3)


def check(folder: RunFolder) -> None:
    """Check that everything is there once, and what the readers report."""
    log = EventLog.open(folder.tables / "events")
    assert sorted(ids_of(log.batches())) == list(range(BATCH + SAMPLES))
    readers = ingests(log)
    assert sorted(readers) == list(range(READERS)) and all(reader.end for reader in readers.values())
    assert (
        sum(reader.rows for reader in readers.values())
        == SAMPLES
        == sum(reader.dropped.get("duplicate", 0) for reader in readers.values())
    )
    offsets = [set(reader.offsets) for reader in readers.values()]
    assert not offsets[0] & offsets[1] and len(offsets[0] | offsets[1]) == 3 * PARTITIONS
    for name in ("behaviors", "outcomes"):
        assert process.DeltaLog(folder.tables / name).rows() == SAMPLES


def test_readers_at_work_together_take_each_sample_once(tmp_path: Path, url: str) -> None:
    produce(url, everything_twice())
    folder = waiting_run(tmp_path)
    with ThreadPoolExecutor(READERS) as threads:
        list(threads.map(lambda reader: run_ingest(folder, shared(url), journal(folder), reader), range(READERS)))
    check(folder)


def test_a_reader_waits_for_the_one_that_commits(tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else both would take a sample that neither finds in the table."""
    produce(url, everything_twice())
    folder, other, waited = waiting_run(tmp_path), threading.Event(), []

    def reach(point: str) -> None:
        if point == "ingest.fetched" and not waited:
            waited.append(other.wait(2))  # in vain: the other may not commit
        elif point == "ingest.events":
            other.set()

    monkeypatch.setattr(process, "reach", reach)
    with ThreadPoolExecutor(READERS) as threads:
        list(threads.map(lambda reader: run_ingest(folder, shared(url), journal(folder), reader), range(READERS)))
    assert waited == [False]
    check(folder)


@pytest.mark.parametrize(
    "point", swept(["table.commit", *(point for point in KILL_POINTS if point.startswith("ingest."))])
)
def test_a_reader_that_is_killed_lets_the_others_commit_and_resumes(tmp_path: Path, url: str, point: str) -> None:
    produce(url, everything_twice())
    folder = waiting_run(tmp_path)
    assert exit_code(RUN, folder.root, url, 0, point=f"{point}:2") == -signal.SIGKILL
    run_ingest(folder, shared(url), journal(folder), 1)
    run_ingest(folder, shared(url), journal(folder), 0)
    check(folder)


def test_models_end_when_every_reader_has(tmp_path: Path, url: str) -> None:
    produce(url, everything_twice())
    folder = waiting_run(tmp_path / "run")
    versions = {"behaviors": -1, "outcomes": -1, "events": hand_over(folder).versions["events"]}
    for reader, over in ((1, False), (0, True)):
        run_ingest(folder, shared(url), journal(folder), reader)
        inbox = TableFollower(
            folder.tables, LiveStore(tmp_path / f"live{reader}", SCHEMA, None, behaviors=True), versions
        )
        while inbox.read() is not None:
            continue
        resumed = TableFollower(folder.tables, inbox.store, versions)
        resumed.resume(inbox.versions)
        assert inbox.ended() == resumed.ended() == over


def test_partitions_that_are_added_are_read(tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    produce(url, [(k, packed("events", events(range(BATCH + 4 * k, BATCH + 4 * k + 4)))) for k in range(PARTITIONS)])
    known, asked = KafkaSource._metadata, itertools.count()

    def metadata(source: KafkaSource) -> dict[str, int]:
        found = known(source)
        return found if next(asked) else dict.fromkeys(found, 1)

    monkeypatch.setattr(KafkaSource, "_metadata", metadata)
    monkeypatch.setattr(kafka, "RENEWED", 0.0)
    monkeypatch.setattr(process, "LOOK", 0.0)
    folder = waiting_run(tmp_path)
    run_ingest(folder, shared(url, "stream.source.readers=1"), journal(folder))
    assert sorted(ids_of(EventLog.open(folder.tables / "events").batches())) == list(range(BATCH + 4 * PARTITIONS))
    (added,) = [line for line in read_journals(folder.logs, 1000) if line["event"] == "partitions added"]
    assert len(added["partitions"]) == 3 * (PARTITIONS - 1)


def test_more_readers_than_partitions_are_refused(tmp_path: Path, url: str) -> None:
    config = shared(url, "stream.source.readers=5")
    assert readers_of(config) == [f"ingest-{k}" for k in range(5)]
    with pytest.raises(UserError, match="have 4 partitions, too few for 5 readers; lower stream.source.readers"):
        run_ingest(waiting_run(tmp_path), config, journal(RunFolder(tmp_path)), 4)


def test_only_a_source_with_partitions_has_readers() -> None:
    with pytest.raises(UserError, match=r"stream\.source: readers split the partitions of kind kafka; nats has none"):
        load_text("{name: t, data: {}, stream: {source: {kind: nats, readers: 2}}}")


def test_a_setting_that_the_client_does_not_know_is_refused(tmp_path: Path, url: str) -> None:
    config = shared(url, "stream.source.options={sasl.mechanisn: PLAIN}")
    with pytest.raises(UserError, match=r"stream\.source\.options: .*sasl\.mechanisn"):
        run_ingest(waiting_run(tmp_path), config, journal(RunFolder(tmp_path)), 0)


def test_secrets_are_read_from_the_environment(tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = shared(url, "stream.source.options={client.id: 'env:WHO'}").stream
    with (
        pytest.raises(UserError, match=r"options\.client\.id: there is no variable WHO in the environment"),
        open_source(stream, url, tmp_path, journal(RunFolder(tmp_path))),
    ):
        pass
    monkeypatch.setenv("WHO", "me")
    with open_source(stream, url, tmp_path, journal(RunFolder(tmp_path))) as source:
        assert source.partitions()

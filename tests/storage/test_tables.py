"""Delta tables in object stores: atomic, idempotent, raced for, killed, and over a network that fails."""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import polars as pl
import pytest

from recdistill.errors import UserError
from recdistill.storage.location import names, write
from recdistill.storage.objects import ObjectPath
from recdistill.tables.events import EventLog
from recdistill.tables.predictions import PredictionLog
from recdistill.testing.killpoints import VARIABLE
from tests.support.faulty_proxy import FaultyProxy, faulty_proxy
from tests.support.object_stores import STORES, everywhere
from tests.support.tables import SCHEMA, events, followed, ids_of, make_events, make_predictions, process

WRITERS, COMMITS = 16, 1
APPEND = """
for sequence in range(int(sys.argv[3]), int(sys.argv[4])):
    log.append(events(range(3 * sequence, 3 * sequence + 3)), writer=sys.argv[2], sequence=sequence)
"""
SAME = """
sys.stdin.readline()
try:
    log.append(events([int(sys.argv[3])]), writer=sys.argv[2], sequence=0, new_ids=True)
    print("done")
except Exception as error:
    print(type(error).__name__, error)
"""


@pytest.fixture(params=STORES)
def proxied(request: pytest.FixtureRequest, bucket_of: Callable[[str], ObjectPath], address: Callable[[str], str],
            monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[FaultyProxy, ObjectPath]]:  # fmt: skip
    place = bucket_of(request.param)
    with faulty_proxy(address(request.param)) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        yield proxy, place


@everywhere
def test_a_table_has_the_rows_that_a_local_one_has(bucket: ObjectPath, tmp_path: Path) -> None:
    commits = [range(3), range(3, 40), range(40, 41)]
    there, here = make_events(bucket / "t", commits), make_events(tmp_path / "t", commits)
    again = EventLog.open(bucket / "t")
    assert again.schema == SCHEMA and again.version == here.version == 3 and again.rows() == 41
    for version in (1, 3):
        rows = [pl.concat(log.batches(version)) for log in (there, here)]
        assert rows[0].equals(rows[1])
    query = [log.collect(log.scan().sort("sample_id")) for log in (again, here)]
    assert query[0].equals(query[1])
    assert there.append(events(range(3)), writer="w", sequence=0) == 3, "a replay"
    with pytest.raises(UserError, match="'sample_id': 40 is in the table already"):
        again.append(events([40]), writer="other", sequence=0)
    assert again.rows() == 41


@pytest.mark.needs("obstore", "ministack")
def test_credentials_are_those_of_the_environment_alone(
    bucket_of: Callable[[str], ObjectPath], request: pytest.FixtureRequest
) -> None:
    """A cloud's own package, which polars asks where it is installed, may know none, or others."""
    log = make_events(bucket_of("ministack") / "t", [range(3)])
    request.addfinalizer(lambda: pl.Config.set_default_credential_provider("auto"))
    pl.Config.set_default_credential_provider(lambda: pytest.fail("polars asked for credentials"))
    with pytest.raises(UserError, match="'sample_id': 2 is in the table already"):
        log.append(events([2]), writer="other", sequence=0)
    assert len(log.collect(log.scan())) == 3


def test_predictions_lie_by_their_model(bucket: ObjectPath) -> None:
    make_predictions(bucket / "p", [range(5)])
    log = PredictionLog.open(bucket / "p")
    assert ids_of(log.of("teacher")) == list(range(5)) and log.models() == [("teacher", 1, "prequential", 5)]
    assert "model=teacher" in names(bucket / "p")


def test_a_lineage_is_read_while_other_threads_go_on(proxied: tuple[FaultyProxy, ObjectPath]) -> None:
    """One of them is the proxy, which has to answer; in a run another renews the lease."""
    _, place = proxied
    log = make_predictions(place / "p", [range(5), range(5, 7)])
    assert [entry["version"] for entry in log.lineage("teacher")] == ["1", "2"]


@everywhere
def test_compaction_vacuum_and_cut_change_nothing_that_followers_see(bucket: ObjectPath) -> None:
    log = make_events(bucket / "t", [range(5 * k, 5 * k + 5) for k in range(12)])
    before = pl.concat(log.batches())
    assert log.compact() and len(log.parts()) == 1
    assert pl.concat(log.batches()).equals(before) and ids_of(followed(log, 0)) == list(range(60))
    assert len(log.vacuum(0)) == 12 and pl.concat(EventLog.open(bucket / "t").batches()).equals(before)
    log.append(events(range(60, 65)), writer="w", sequence=12)
    assert ids_of(log.batches()) == list(range(65))


@everywhere
@pytest.mark.parametrize("point", ["table.files", "table.commit"])
def test_a_writer_that_is_killed_and_runs_again_writes_each_row_once(
    point: str, bucket: ObjectPath, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_events(bucket / "t")
    monkeypatch.setenv(VARIABLE, f"{point}:3")
    killed = process(APPEND, bucket / "t", "trainer", 0, 5)
    assert killed.wait() == -signal.SIGKILL
    monkeypatch.delenv(VARIABLE)
    log = EventLog.open(bucket / "t")
    assert log.last_sequence("trainer") == (1 if point == "table.files" else 2)
    again = process(APPEND, bucket / "t", "trainer", 0, 5)
    assert (again.communicate()[1], again.returncode) == ("", 0)
    assert ids_of(log.batches()) == list(range(15)) and log.version == 5


@everywhere
def test_sixteen_writers_at_once_all_land(bucket: ObjectPath) -> None:
    log = make_events(bucket / "t")

    def write_all(writer: int) -> None:
        own = EventLog.open(bucket / "t")
        for sequence in range(COMMITS):
            own.append(events([100 * writer + sequence]), writer=f"w{writer}", sequence=sequence, new_ids=True)

    with ThreadPoolExecutor(WRITERS) as pool:
        list(pool.map(write_all, range(WRITERS)))
    assert log.version == WRITERS * COMMITS
    assert sorted(ids_of(log.batches())) == sorted(100 * k + n for k in range(WRITERS) for n in range(COMMITS))
    assert Counter(len(commit.parts) for commit in log.commits(0)) == {1: WRITERS * COMMITS}


def test_of_two_processes_with_one_writer_one_is_refused(bucket: ObjectPath) -> None:
    log = make_events(bucket / "t")
    writers = [process(SAME, log.path, "w", k) for k in (1, 2)]
    out = [writer.communicate("go\n")[0] for writer in writers]
    assert len(ids_of(log.batches())) == 1 and log.version == 1
    refused = [text for text in out if text != "done\n"]
    assert all("writer 'w' is in use by another process" in text for text in refused), out


@pytest.mark.parametrize("fault", ["lost request", "lost answer", "unavailable"])
@pytest.mark.parametrize("what", [r"PUT .*_delta_log/0+1\.json", r"PUT .*parquet"])
def test_a_request_that_fails_once_costs_nothing(
    what: str, fault: str, proxied: tuple[FaultyProxy, ObjectPath]
) -> None:
    proxy, place = proxied
    log = make_events(place / "t")
    proxy.fail(what, fault)
    version = log.append(events(range(5)), writer="w", sequence=0)
    assert proxy.failed == 1 and (version, log.version) == (1, 1) and ids_of(log.batches()) == list(range(5))
    assert log.append(events(range(5, 7)), writer="w", sequence=1) == 2
    assert ids_of(followed(log, 0)) == list(range(7))


def test_a_network_that_fails_for_good_is_one_line_and_the_next_run_goes_on(
    proxied: tuple[FaultyProxy, ObjectPath], monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy, place = proxied
    log = make_events(place / "t", [range(3)])
    monkeypatch.setattr("recdistill.storage.objects.RETRIES", 1)
    proxy.fail(r"PUT .*parquet", "unavailable", 1_000)
    with pytest.raises(
        UserError, match=f"^{place}/t/.*parquet: the store fails: .*503.*; run the same command again"
    ) as caught:
        log.append(events(range(3, 5)), writer="w", sequence=1)
    assert "\n" not in str(caught.value)
    proxy.fail(r"nothing", "unavailable")
    assert log.append(events(range(3, 5)), writer="w", sequence=1) == 2 and ids_of(log.batches()) == list(range(5))


def test_an_empty_or_damaged_commit_is_refused_by_its_name(bucket: ObjectPath) -> None:
    log = make_events(bucket / "t", [range(3), range(3, 6)])
    last = bucket / "t" / "_delta_log" / f"{2:020d}.json"
    content = last.read_bytes()
    write(last, content.replace(b'"size":', b'"size":1'))
    with pytest.raises(UserError, match=f"{last}: the log of the table is damaged"):
        list(log.commits(0))
    write(last, b"")
    with pytest.raises(UserError, match=f"{last}: the log of the table is damaged: an empty commit"):
        EventLog.open(bucket / "t")


def test_a_damaged_file_is_refused_by_its_name(bucket: ObjectPath) -> None:
    log = make_events(bucket / "t", [range(300)])
    part = bucket / "t" / log.parts()[0].path
    content = bytearray(part.read_bytes())
    content[len(content) // 3] ^= 255
    write(part, bytes(content))
    with pytest.raises(UserError, match=f"{part}: damaged Parquet file"):
        list(log.batches())
    part.unlink()
    with pytest.raises(UserError, match=f"{part}: removed by vacuum"):
        list(log.batches())

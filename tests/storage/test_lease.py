"""One process at a time on a place of an object store, by the store's own clock and conditional puts."""

from __future__ import annotations

import json
import multiprocessing
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from recdistill.errors import UserError
from recdistill.locks import locked
from recdistill.storage import lease as leases
from recdistill.storage.lease import LEASE, Lease, leased, probe
from recdistill.storage.location import names
from recdistill.storage.objects import ObjectPath
from recdistill.workers.spawn import without_main
from tests.support.faulty_proxy import FaultyProxy, faulty_proxy
from tests.support.object_stores import everywhere

BUSY = "the run: another process is at work"


@pytest.fixture
def locks(tmp_path: Path) -> list[Path]:
    """The lock files of two machines."""
    for name in ("a", "b"):
        (tmp_path / name).touch()
    return [tmp_path / "a", tmp_path / "b"]


@everywhere
def test_a_second_machine_is_refused_until_the_first_is_done(bucket: ObjectPath, locks: list[Path]) -> None:
    with leased(bucket, locks[0], BUSY):
        with pytest.raises(UserError, match=rf"^{BUSY} \(process \d+ on .*\); if it was killed, the run is free 60 s"):
            with leased(bucket, locks[1], BUSY):
                pass
    with leased(bucket, locks[1], BUSY):
        assert names(bucket) == {LEASE}
    assert names(bucket) == set()


@everywhere
def test_a_killed_process_is_followed_at_once_here_and_later_elsewhere(
    bucket: ObjectPath, locks: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    leases._taken(bucket, probe(bucket), leases._mark(locks[0]), BUSY)  # nobody renews it
    with pytest.raises(UserError, match=BUSY), leased(bucket, locks[1], BUSY):
        pass
    with locked(locks[0], BUSY), leased(bucket, locks[0], BUSY):
        pass
    leases._taken(bucket, probe(bucket), leases._mark(locks[0]), BUSY)
    monkeypatch.setattr(leases, "LEASE_S", 0.0)
    with leased(bucket, locks[1], BUSY):
        assert json.loads((bucket / LEASE).read_bytes())["machine"] == locks[1].read_text()


@everywhere
def test_a_lease_that_another_took_is_lost_and_is_not_deleted(bucket: ObjectPath, locks: list[Path]) -> None:
    held = leases._taken(bucket, probe(bucket), "mine", BUSY)
    assert held.renew() and held.renew()
    (bucket / LEASE).write_bytes(b'{"machine": "other"}')
    assert not held.renew()
    held.start()
    held.close()
    assert names(bucket) == {LEASE}


def test_whoever_loses_the_lease_stops_with_one_line(
    bucket: ObjectPath, locks: list[Path], monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    monkeypatch.setattr(leases, "RENEW_S", 0.05)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # which workers of the test runner ignore
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, before))
    with pytest.raises(UserError, match="this process lost its lease"), leased(bucket, locks[0], BUSY):
        (bucket / LEASE).write_bytes(b'{"machine": "other"}')
        leases.threading.Event().wait()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, seconds in {"RENEW_S": 0.05, "REQUEST_S": 0.2, "STOP_S": 0.3, "END_S": 0.2, "LEASE_S": 30.0}.items():
        monkeypatch.setattr(leases, name, seconds)


@pytest.fixture
def proxied(
    address: Callable[[str], str], bucket_of: Callable[[str], ObjectPath], monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[FaultyProxy, ObjectPath]]:
    place = bucket_of("ministack")
    with faulty_proxy(address("ministack")) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        yield proxy, place


@pytest.mark.needs("obstore", "ministack")
def test_a_holder_whose_packets_are_swallowed_stops_before_another_may_follow(
    proxied: tuple[FaultyProxy, ObjectPath], locks: list[Path], quick: None, request: pytest.FixtureRequest
) -> None:
    proxy, place = proxied
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, before))
    with pytest.raises(UserError, match="this process lost its lease"), leased(place, locks[0], BUSY) as lease:
        proxy.fail("PUT .*lease", "swallowed", 1_000)
        leases.threading.Event().wait()
    assert proxy.failed and time.monotonic() - lease._renewed < leases.LEASE_S


def stuck(place: ObjectPath, lock: Path) -> None:
    """Lose a lease at work that no interrupt ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    leases.RENEW_S, leases.END_S, leases.LEASE_S = 0.05, 0.1, 0.1
    with leased(place, lock, BUSY):
        (place / LEASE).write_bytes(b'{"machine": "other"}')
        leases.threading.Event().wait()


@pytest.mark.needs("obstore", "ministack")
def test_work_that_no_interrupt_ends_is_ended_with_its_process(
    bucket_of: Callable[[str], ObjectPath], locks: list[Path]
) -> None:
    process = multiprocessing.get_context("spawn").Process(target=stuck, args=(bucket_of("ministack"), locks[0]))
    with without_main():
        process.start()
    process.join()
    assert process.exitcode == 2


def test_a_lease_that_somebody_deleted_is_lost(bucket: ObjectPath, locks: list[Path]) -> None:
    held = leases._taken(bucket, probe(bucket), "mine", BUSY)
    assert held.ours()
    (bucket / LEASE).unlink()
    assert not held.ours() and not held.renew()


def test_a_lease_that_was_lost_while_interrupts_were_ignored_is_told_at_the_end(
    bucket: ObjectPath, locks: list[Path]
) -> None:
    with pytest.raises(UserError, match="this process lost its lease"), leased(bucket, locks[0], BUSY) as lease:
        lease.lost = True


@pytest.mark.needs("obstore", "ministack")
@pytest.mark.parametrize("header", ["If-None-Match", "If-Match"])
def test_a_store_without_conditional_puts_is_refused(header: str, proxied: tuple[FaultyProxy, ObjectPath]) -> None:
    proxy, place = proxied
    probe(place)
    proxy.dropped = header
    with pytest.raises(UserError, match=rf"this store has no conditional puts \({header}\)"):
        probe(place)
    assert names(place) == set()


@pytest.mark.parametrize(("seconds", "words"), [(400, "400 s ahead of"), (-4_000, "4,000 s behind")])
def test_a_clock_that_is_far_off_is_refused(
    seconds: float, words: str, bucket: ObjectPath, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = probe(bucket)
    monkeypatch.setattr(leases.time, "time", lambda: now + seconds)
    with pytest.raises(UserError, match="clock is [0-9,]+ s (ahead of|behind) the store's; set it") as caught:
        probe(bucket)
    assert words.split()[-1] in str(caught.value)


def test_the_lease_is_renewed_where_the_answer_was_lost(bucket: ObjectPath) -> None:
    held = leases._taken(bucket, probe(bucket), "mine", BUSY)
    stale = Lease(held.path, held.record, "a tag of before")
    assert stale.renew() and stale.renew()

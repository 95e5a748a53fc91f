"""One process at a time on a place of an object store, by an object that the process renews while it works.

    probe      does the store refuse a second conditional put, and what time has it
    take       create lease.json where there is none, or swap one that was not renewed for LEASE_S
    renew      swap it every RENEW_S; whoever finds another's there has lost it, and stops
    stop       after STOP_S without a renewal, by an interrupt; where that does not end the work, the process ends END_S
               before another may take the place

Ages are differences of the store's own times: no clock of a machine is trusted. On one machine a lock file goes before
the lease: who holds both the file and its mark knows that the lease's last holder there is gone.
"""

from __future__ import annotations

import json
import os
import platform
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

from recdistill.errors import UserError
from recdistill.storage.objects import ObjectPath

__all__ = ["LEASE", "LEASE_S", "Lease", "leased", "probe"]

LEASE = "lease.json"
LEASE_S = 60.0  # without a renewal the place is free
RENEW_S = 10.0
REQUEST_S = 5.0  # a request of a renewal, which is tried twice: packets may be swallowed without a word
STOP_S = 40.0  # without a renewal the holder stops its work
END_S = 5.0
MAX_SKEW_S = 300.0  # between this machine's clock and the store's; stores refuse requests beyond 900


def probe(place: ObjectPath) -> float:
    """Return the store's time in epoch seconds.

    Raises UserError where the bucket cannot be written to, its store takes a second conditional put (then two processes
    could commit the same version, and rows would be lost) or one in the place of what is no longer there (then two
    could hold the lease), or this machine's clock is far off.
    """
    tried = place / f"probe-{uuid4()}"
    try:
        first, second = tried.create(b"first"), tried.create(b"second")
        if first is None or second is not None or tried.read_bytes() != b"first":
            raise _unconditional(place, "If-None-Match")
        if tried.swap(b"third", first) is None or tried.swap(b"fourth", first) is not None:
            raise _unconditional(place, "If-Match")
        now = tried.stat().st_mtime
    finally:
        tried.unlink(missing_ok=True)
    skew = time.time() - now
    if abs(skew) > MAX_SKEW_S:
        raise UserError(
            f"{place.bucket}: this machine's clock is {abs(skew):,.0f} s {'ahead of' if skew > 0 else 'behind'} the "
            "store's; set it"
        )
    return now


def _unconditional(place: ObjectPath, header: str) -> UserError:
    return UserError(
        f"{place.bucket}: this store has no conditional puts ({header}), so two processes could overwrite each other's "
        "commits; choose a store that has them"
    )


class Lease:
    """A lease that this process has; `keep` renews it until it is closed or lost."""

    def __init__(self, path: ObjectPath, record: dict[str, str], tag: str) -> None:
        self.path, self.record, self.tag = replace(path, request_s=REQUEST_S), record, tag
        self.lost = False
        self._renewed = time.monotonic()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self.keep, daemon=True)

    def keep(self) -> None:
        """Renew until closed; where another has it, or the store was away too long, end the process's work as Ctrl-C
        would, or, where that is of no use, the process.
        """
        while not self._closed.wait(RENEW_S):
            if not self.renew():
                self.lost = True
                os.kill(os.getpid(), signal.SIGINT)
                return self._end()

    def _end(self) -> None:
        """End the process where its work does not: it may wait for a request that must not arrive later."""
        left = LEASE_S - (time.monotonic() - self._renewed) - END_S
        if not self._closed.wait(max(left, END_S)):
            print(f"recdistill: {_lost(self.path.parent)}", file=sys.stderr, flush=True)
            os._exit(2)

    def renew(self) -> bool:
        """Renew once; return whether this process may go on."""
        begun = time.monotonic()
        try:
            tag = self.path.swap(_content(self.record), self.tag) or self._own_tag()
        except UserError:  # the network fails: there is time until the lease ends
            return time.monotonic() - self._renewed < STOP_S
        except FileNotFoundError:  # somebody deleted it
            return False
        self.tag, self._renewed = tag or self.tag, begun if tag else self._renewed
        return tag is not None

    def _own_tag(self) -> str | None:
        """Return the tag of what is there where it is this process's own, the answer to which was lost."""
        data, stat = self.path.read_as_of()
        return stat.tag if data == _content(self.record) else None

    def ours(self) -> bool:
        """Return whether this process still has it, as far as can be known."""
        with suppress(UserError, FileNotFoundError):
            return not self.lost and self.path.read_bytes() == _content(self.record)
        return False

    def start(self) -> None:
        """Begin to renew."""
        self._thread.start()

    def close(self) -> None:
        """Give it back, unless it is another's by now."""
        self._closed.set()
        self._thread.join()
        with suppress(UserError):  # it ends by itself
            if self.ours():
                self.path.unlink(missing_ok=True)


def _content(record: dict[str, str]) -> bytes:
    return json.dumps(record, sort_keys=True).encode()


@contextmanager
def leased(place: ObjectPath, lock: Path, busy: str) -> Iterator[Lease]:
    """Keep processes of any machine out of `place`, and give its lease. lock: the lock file of this machine, which is
    held.

    Raises UserError `busy` where another process is at work there, what `probe` refuses, and where the lease is lost.
    """
    lease = _taken(place, probe(place), _mark(lock), busy)
    lease.start()
    lost = _lost(place)
    try:
        yield lease
        if lease.lost:  # while interrupts were ignored
            raise lost
    except KeyboardInterrupt:
        if lease.lost:
            raise lost from None
        raise
    finally:
        lease.close()


def _lost(place: ObjectPath) -> UserError:
    return UserError(
        f"{place}: this process lost its lease, as the store could not be reached or the process stood still; what was "
        "committed stays; run the same command again"
    )


def _mark(lock: Path) -> str:
    """Return what the lock file of this machine holds, which no other's does."""
    text = lock.read_text(encoding="utf-8")
    if not text:
        text = str(uuid4())
        lock.write_text(text, encoding="utf-8")
    return text


def _taken(place: ObjectPath, now: float, mark: str, busy: str) -> Lease:
    """Return the lease of `place`; UserError where another process has it."""
    path = place / LEASE
    record = {"machine": mark, "holder": f"process {os.getpid()} on {platform.node()}", "id": str(uuid4())}
    if (tag := path.create(_content(record))) is not None:
        return Lease(path, record, tag)
    try:
        data, stat = path.read_as_of()
        found = json.loads(data)
    except FileNotFoundError:  # given back meanwhile
        found, stat = {}, None
    except ValueError:
        raise UserError(f"{path}: damaged; delete it once no process is at work there") from None
    age = now - stat.st_mtime if stat else LEASE_S
    if age >= LEASE_S or found.get("machine") == mark:
        tag = path.swap(_content(record), stat.tag) if stat else path.create(_content(record))
        if tag is not None:
            return Lease(path, record, tag)
    raise UserError(
        f"{busy} ({found.get('holder', 'unknown')}); if it was killed, the run is free {LEASE_S:.0f} s after that"
    )

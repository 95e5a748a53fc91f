"""The request log: what was served, and how it ended, on its way to the stream, written behind the answers' back.

    answer ---> queue (bounded) ---> rows of events and served ---> sink     PERIOD after PERIOD
    outcomes -> queue           ---> rows of outcomes

A sink that is away is tried again; what the queue cannot hold meanwhile is dropped and counted, and no answer waits.
"""

from __future__ import annotations

import queue
import sys
import threading
import time
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from recdistill.errors import UserError
from recdistill.serve.impressions import best, events_of, events_schema, outcomes_of, served_of
from recdistill.serve.live import Live
from recdistill.serve.log_sinks import Sink, open_sink
from recdistill.serve.meters import Meters
from recdistill.serve.service import Served

__all__ = ["RequestLog", "open_log"]

WAITING = 4096  # answers and lists of outcomes that wait to be written
MAX_AT_ONCE = 512  # of them that are written at a time
PERIOD = 0.5  # seconds
PAUSE = 0.5  # seconds before a sink that was away is tried again
MADE = {"events": events_of, "served": served_of}  # of an answer


class RequestLog:
    """An observer of a service. shown: how many of the best candidates count as shown, None for all; waiting: how many
    answers may wait.
    """

    def __init__(
        self, sink: Sink, live: Live, meters: Meters, shown: int | None = None, waiting: int = WAITING
    ) -> None:
        self.sink, self.live, self.shown = sink, live, shown
        text = "Rows of the request log, by what became of them: written, dropped (the queue was full), left out."
        self.rows = meters.counter("recdistill_log_rows", text, "state")
        self.failures = meters.counter("recdistill_log_failures", "Tries at the request log that failed.")
        self._queue: queue.Queue[Served | pa.Table] = queue.Queue(waiting)
        self._ends, self._until = threading.Event(), float("inf")
        self._thread = threading.Thread(target=self._run, name="request-log", daemon=True)
        self._thread.start()

    def __call__(self, served: Served) -> None:
        """Take an answer; one without a user is left out, for it is no sample."""
        count = len(best(served.scores, self.shown))
        if served.request.user is None:
            self.rows.labels("left out").inc(count)
        else:
            self._put(served, count)

    def outcomes(self, outcomes: Sequence[tuple[str, Any, str, float, float]]) -> int:
        """Take outcomes (request, item, task, label, seconds since 1970); return how many will be written: all, or none
        where the queue is full. UserError as `outcomes_of`.
        """
        rows = outcomes_of(outcomes, self.live.scorer.artefact)
        return len(rows) if self._put(rows, len(rows)) else 0

    def _put(self, one: Served | pa.Table, rows: int) -> bool:
        try:
            self._queue.put_nowait(one)
        except queue.Full:
            self.rows.labels("dropped").inc(rows)
            return False
        return True

    def _run(self) -> None:
        while not (self._ends.is_set() and self._queue.empty()):
            if taken := self._taken():
                self._write(self._tables(taken))

    def _taken(self) -> list[Served | pa.Table]:
        """Return what came in a PERIOD, MAX_AT_ONCE at most; what is there, once the log is to end."""
        taken, until = list[Served | pa.Table](), time.monotonic() + PERIOD
        while len(taken) < MAX_AT_ONCE:
            left = 0.0 if self._ends.is_set() else max(until - time.monotonic(), 0.0)
            try:
                taken.append(self._queue.get(timeout=left) if left else self._queue.get_nowait())
            except queue.Empty:
                break
        return taken

    def _tables(self, taken: list[Served | pa.Table]) -> dict[str, pa.Table]:
        """Return the rows by kind."""
        found: dict[str, list[pa.Table]] = {"events": [], "served": [], "outcomes": []}
        for one in taken:
            if isinstance(one, Served):
                for kind, rows in self._rows(one).items():
                    found[kind].append(rows)
            else:
                found["outcomes"].append(one)
        return {kind: pa.concat_tables(tables) for kind, tables in found.items() if tables}

    def _rows(self, served: Served) -> dict[str, pa.Table]:
        """Return an answer's rows by kind; nothing for one of another version whose values this one cannot read."""
        artefact = self.live.scorer.artefact
        try:
            return {kind: of(served, artefact, self.shown) for kind, of in MADE.items()}
        except (UserError, pa.ArrowException):
            self.rows.labels("left out").inc(len(best(served.scores, self.shown)))
            return {}

    def _write(self, tables: dict[str, pa.Table]) -> None:
        """Write until it is written, or the log has to end."""
        count = sum(len(table) for kind, table in tables.items() if kind != "served")
        while tables:
            try:
                self.sink.send(tables)
                return self.rows.labels("written").inc(count)
            except OSError as error:
                self.failures.inc()
                if time.monotonic() >= self._until:
                    print(f"recdistill: request log: {error}; {count:,} rows are lost", file=sys.stderr, flush=True)
                    return self.rows.labels("dropped").inc(count)
                self._ends.wait(PAUSE)

    def close(self, seconds: float) -> None:
        """Write what waits, for `seconds` at most, and end."""
        self._until = time.monotonic() + seconds
        self._ends.set()
        self._thread.join(seconds + 1)
        self.sink.close()


def open_log(where: str, live: Live, meters: Meters, shown: int | None) -> RequestLog:
    """Return a log that goes to an address or folder, see `open_sink`; UserError for a log that no request can fill."""
    events = live.scorer.artefact.manifest.events
    if "log_q" in events:
        raise UserError(
            f"--log {where}: the model's log has sampled negatives, and no request brings how probable each draw was "
            "(log_q); serve without --log"
        )
    return RequestLog(open_sink(where, events_schema(events)), live, meters, shown)

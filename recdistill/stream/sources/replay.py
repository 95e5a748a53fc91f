"""A log replayed into a source: what the user's producers would send, in order of event time, at a chosen speed-up.

    behaviors up to a message's last sample, outcomes known by its first, then the samples; at the end an end

Messages are numbered, and the same log is always cut alike, so a replay that was killed finds its place in the
source.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import datetime
from itertools import count
from pathlib import Path

import polars as pl

from recdistill.config.experiment import Experiment
from recdistill.data.readers.base import Log
from recdistill.data.readers.factory import open_log
from recdistill.locks import locked
from recdistill.runs.folder import RunFolder
from recdistill.stream.event_log import Journal
from recdistill.stream.sources.base import Source
from recdistill.stream.sources.factory import open_source, source_tables
from recdistill.stream.sources.local_nats import server_url
from recdistill.stream.sources.wire import Kind, Outgoing
from recdistill.tables.delta.types import TIME
from recdistill.tables.schema import EventSchema

__all__ = ["messages_of", "run_publish"]

MAX_MESSAGES = 20  # of one call
PERIOD = 0.05  # seconds of a replay that may be sent together
OUTCOMES: dict[str, pl.DataType] = {"sample_id": pl.Int64(), "task": pl.String(), "label": pl.Float32(), "time": TIME}


def run_publish(folder: RunFolder, experiment: Experiment, data: Path | None, journal: Journal) -> int:
    """Replay the log after its first `stream.batch_rows` rows; return the messages sent now.

    Raises UserError for anything wrong with the log or the source, and when the broker stays down.
    """
    stream, log = experiment.stream, open_log(experiment.data, data)
    tables = source_tables(folder.root, stream.source)
    with (
        locked(
            folder.local / "lock.publish", f"{folder.root}: another process replays this log; wait for it or stop it"
        ),
        open_source(stream, server_url(folder.local, stream.source), tables, journal) as source,
    ):
        source.create(log.schema)
        first = source.resume()
        journal.write("resumed" if first else "started", message=first)
        sent = _send(source, messages_of(log, experiment), first, stream.speed)
        journal.write("ended", messages=first + sent)
        return sent


def _send(source: Source, messages: Iterator[Outgoing], first: int, speed: float | None) -> int:
    """Publish the messages from number `first` on, each when its time has come."""
    sent, begun, start = 0, time.monotonic(), None
    group: list[Outgoing] = []
    for message in messages:
        if message.number < first:
            continue
        at = _time_of(message)
        start = start or at
        due = begun + (at - start).total_seconds() / speed if speed and at and start else 0.0
        if group and (len(group) >= MAX_MESSAGES or due > time.monotonic() + PERIOD):
            source.publish(group)
            sent, group = sent + len(group), []
        time.sleep(max(0.0, due - time.monotonic()))
        group.append(message)
    source.publish(group)
    return sent + len(group)


def _time_of(message: Outgoing) -> datetime | None:
    """Return the event time of a message of samples, None for others: they go with the samples after them."""
    if message.kind != "events" or not len(message.rows):
        return None
    first: datetime = message.rows["time"][0]
    return first


def messages_of(log: Log, experiment: Experiment) -> Iterator[Outgoing]:
    """Yield all messages of the replay, numbered from 0, an end last; the batch phase has the rows before."""
    number, size = count(), experiment.stream.source.message_rows
    delayed = experiment.labels.window_s is not None
    empty = pl.DataFrame(schema=log.schema.columns())
    waiting, behaviors, begun = pl.DataFrame(schema=OUTCOMES), _Until(log.behaviors), False

    def cut(kind: Kind, rows: pl.DataFrame) -> Iterator[Outgoing]:
        yield from (Outgoing(next(number), kind, rows[at : at + size]) for at in range(0, len(rows), size))

    for rows, last in _samples(log, experiment.stream.batch_rows, size):
        if not begun:
            begun = True
            behaviors.take(last)  # the batch phase has them
        yield from cut("behaviors", behaviors.take(rows["time"].max()))  # type: ignore[arg-type]
        if delayed:
            known = pl.col("time") <= rows["time"][0]
            yield from cut("outcomes", waiting.filter(known))
            waiting = pl.concat([waiting.filter(~known), _outcomes(rows, log.schema)]).sort("time", maintain_order=True)
        yield from cut("events", _blank(rows, log.schema) if delayed else rows)
    yield from cut("outcomes", waiting)
    yield Outgoing(next(number), "events", empty, end=True)


def _samples(log: Log, skip: int, size: int) -> Iterator[tuple[pl.DataFrame, datetime | None]]:
    """Yield (the next `size` rows after the first `skip`, the time of the row before them)."""
    left, last = skip, None
    rest: pl.DataFrame | None = None
    for chunk in log.batches():
        if left >= len(chunk):
            left, last = left - len(chunk), chunk["time"][-1]
            continue
        if left:
            left, last, chunk = 0, chunk["time"][left - 1], chunk[left:]
        rest = chunk if rest is None else pl.concat([rest, chunk])
        whole = len(rest) - len(rest) % size
        for at in range(0, whole, size):
            rows = rest[at : at + size]
            yield rows, last
            last = rows["time"][-1]
        rest = rest[whole:]
    if rest is not None and len(rest):
        yield rest, last


class _Until:
    """The rows of a table in time order, taken bit by bit, each time up to a later moment."""

    def __init__(self, batches: Callable[[], Iterator[pl.DataFrame]] | None) -> None:
        self._batches = batches() if batches else iter(())
        self._rest: pl.DataFrame | None = next(self._batches, None)

    def take(self, until: datetime | None) -> pl.DataFrame:
        """Return the rows not taken yet that happened by `until`."""
        taken: list[pl.DataFrame] = []
        while until is not None and self._rest is not None:
            early = self._rest.filter(pl.col("time") <= until)
            taken.append(early)
            if len(early) < len(self._rest):
                self._rest = self._rest[len(early) :]
                break
            self._rest = next(self._batches, None)
        return pl.concat(taken) if taken else pl.DataFrame()


def _outcomes(rows: pl.DataFrame, schema: EventSchema) -> pl.DataFrame:
    """Return the positives of all tasks as outcomes, at the times they became known; a negative is no outcome."""
    outcomes = [pl.DataFrame(schema=OUTCOMES)]
    for task in schema.tasks:
        known = f"label_time_{task}" if task in schema.label_times else "time"
        mine = rows.filter((pl.col(f"label_{task}") == 1) & pl.col(known).is_not_null())
        outcomes.append(mine.select("sample_id", task=pl.lit(task), label=f"label_{task}", time=known))
    return pl.concat(outcomes)


def _blank(rows: pl.DataFrame, schema: EventSchema) -> pl.DataFrame:
    """Return the rows as they are when they happen: no label is known."""
    nothing = {f"label_{task}": pl.lit(None, pl.Float32) for task in schema.tasks}
    return rows.with_columns(**nothing, **{f"label_time_{task}": pl.lit(None, TIME) for task in schema.label_times})

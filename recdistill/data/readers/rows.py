"""The one way from raw chunks to a log: converted, checked across chunk borders, wrong rows named as they
stand in the file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

import numpy as np
import polars as pl

from recdistill.config.data import BehaviorsConfig, ColumnsConfig
from recdistill.data.readers.files import CHUNK, ROW, RawTable
from recdistill.data.readers.mapping import Column, behavior_columns, convert, event_columns, make_time
from recdistill.data.store.id_set import IdSet
from recdistill.tables.schema import EventSchema
from recdistill.tables.validation import Origin, check_events, check_times
from recdistill.typing import Array

__all__ = ["EventReader", "behavior_rows", "is_ordered"]

Prepare = Callable[[pl.DataFrame], pl.DataFrame]


def is_ordered(source: RawTable, time: Column) -> bool:
    """Return whether the times of a file never fall; reads that column alone, in O(chunk)."""
    last: datetime | None = None
    for chunk in source.chunks([time.source]):
        times = chunk.select(time.value).to_series().drop_nulls()
        if len(times):
            if not times.is_sorted() or (last is not None and times[0] < last):
                return False
            last = times[-1]
    return True


def _kinds(source: RawTable, prepare: Prepare) -> dict[str, pl.DataType]:
    """Return the types of a prepared chunk's columns, those that the source names first."""
    raw = {ROW: pl.UInt32(), **source.frame.collect_schema()}
    prepared = prepare(pl.DataFrame(schema=raw)).schema
    return {**prepared, **{name: kind for name, kind in source.kinds.items() if name in prepared}}


@dataclass(frozen=True)
class EventReader:
    """The samples of a file.

    columns: the mapping; prepare: makes the mapped columns of a raw chunk (joins, lists to rows), keeping ROW;
    sort: by time, in memory, unless the file is in order; rows: raw rows to a chunk.
    """

    source: RawTable
    columns: ColumnsConfig
    sort: bool = False
    prepare: Prepare = lambda chunk: chunk
    needs: tuple[str, ...] = ()  # raw columns that `prepare` reads; none: those of the mapping
    rows: int = CHUNK

    def mapped(self) -> tuple[EventSchema, dict[str, Column]]:
        """Return the schema and the columns to make; UserError when a column is missing."""
        return event_columns(_kinds(self.source, self.prepare), self.columns, self.source.path)

    def chunks(self) -> Iterator[pl.DataFrame]:
        """Yield the events in the table's columns, in time order, ids unique; UserError at the first wrong row."""
        schema, columns = self.mapped()
        time = make_time(self.columns.time, self.columns.time_unit, self.source.kinds[self.columns.time])
        order = time.value if self.sort and not is_ordered(self.source, time) else None
        raw = list(self.needs) or [column.source for column in columns.values()]
        check = _TimeOrder(), _UniqueIds(self, sorts=order is not None)
        with self.source.naming_files():
            yield from self._checked(self.source.chunks(raw, order, self.rows), schema, columns, check)

    def _checked(
        self, chunks: Iterator[pl.DataFrame], schema: EventSchema, columns: dict[str, Column], check: Iterable[_Check]
    ) -> Iterator[pl.DataFrame]:
        done = 0
        for chunk in chunks:
            rows, origin = convert(self.prepare(chunk), columns, self.source.path)
            if self.columns.sample_id is None:
                rows = rows.with_columns(sample_id=pl.int_range(done, done + len(rows), dtype=pl.Int64))
            check_events(rows, schema.tasks, origin)
            for each in check:
                each.check(rows, origin)
            done += len(rows)
            yield rows.select(list(schema.columns()))

    def ids(self, count: int) -> Iterator[Array]:
        """Yield the first `count` sample ids of the file, a chunk at a time."""
        _, columns = self.mapped()
        column = columns["sample_id"]
        for chunk in self.source.chunks([column.source], rows=self.rows):
            yield chunk.select(column.value).to_series().head(count).to_numpy()
            count -= len(chunk)
            if count <= 0:
                return


class _Check(Protocol):
    def check(self, rows: pl.DataFrame, origin: Origin) -> None: ...


@dataclass
class _TimeOrder:
    """Refuses a row earlier than the one before it, also the last of the chunk before."""

    last: datetime | None = None

    def check(self, rows: pl.DataFrame, origin: Origin) -> None:
        times = rows["time"]
        back = (times < times.shift(1, fill_value=self.last)).fill_null(False).arg_true()
        if len(back):
            problem = "earlier than the row before; sort the file or set data.sort: true"
            raise origin.refuse(back[0], "time", f"{problem}; got {times[back[0]]}")
        self.last = times[-1] if len(times) else self.last


@dataclass
class _UniqueIds:
    """Refuses a sample id of an earlier chunk.

    While ids rise nothing is remembered; when they first do not, those before are read again and then kept, 8 bytes
    each.
    """

    events: EventReader
    sorts: bool
    top: int = np.iinfo(np.int64).min
    done: int = 0
    seen: IdSet | None = field(default=None)

    def check(self, rows: pl.DataFrame, origin: Origin) -> None:
        ids = rows["sample_id"].to_numpy()
        if self.seen is None and len(ids) and not self.sorts and ids[0] > self.top and (np.diff(ids) > 0).all():
            self.top, self.done = int(ids[-1]), self.done + len(ids)
            return
        if self.seen is None:
            self.seen = IdSet()
            for part in self.events.ids(self.done) if self.done else ():
                self.seen.add(part)
        double = np.flatnonzero(self.seen.holds(ids))
        if len(double):
            raise origin.refuse(
                int(double[0]), "sample_id", f"a sample id may stand once; {ids[double[0]]} stood before"
            )
        self.seen.add(ids)


def behavior_rows(
    source: RawTable,
    columns: BehaviorsConfig,
    schema: EventSchema,
    prepare: Prepare = lambda chunk: chunk,
    needs: tuple[str, ...] = (),
) -> Iterator[pl.DataFrame]:
    """Yield behaviors in time order; rows without user or item are left out. A file out of order is sorted
    in memory.
    """
    made = behavior_columns(_kinds(source, prepare), columns, schema, source.path)
    time = make_time(columns.time, columns.time_unit, source.kinds[columns.time])
    order = None if is_ordered(source, time) else time.value
    with source.naming_files():
        for chunk in source.chunks(list(needs) or [column.source for column in made.values()], order):
            rows, origin = convert(prepare(chunk), made, source.path)
            check_times(rows, origin)
            yield rows.drop_nulls(["user_id", "item_id"])

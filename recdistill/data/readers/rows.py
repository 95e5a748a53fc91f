"""The one way from raw chunks to a log: converted, checked across chunk borders, wrong rows named as they
stand in the file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property

import polars as pl

from recdistill.config.data import BehaviorsConfig, ColumnsConfig, VectorConfig
from recdistill.data.readers.columns import Column, Counts, Kind, convert
from recdistill.data.readers.files import CHUNK, ROW, RawTable
from recdistill.data.readers.ids import id_names, written_kinds
from recdistill.data.readers.mapping import behavior_columns, event_columns, event_schema
from recdistill.data.readers.numbering import RequestNumbers, UniqueIds, UniqueKeys
from recdistill.data.readers.row_vectors import row_vector_columns, row_vectors_of
from recdistill.data.readers.sequences import SequenceReader, sequence_sources
from recdistill.data.readers.times import ERA, check_unit
from recdistill.tables.schema import EventSchema
from recdistill.tables.validation import Origin, check_events, check_times
from recdistill.typing import Array

__all__ = ["HINT", "EventReader", "TimeOrder", "behavior_rows", "is_ordered", "kinds_in", "notes_of", "sources_of"]

Prepare = Callable[[pl.DataFrame], pl.DataFrame]
HINT = "; data.drop_missing: true leaves such rows out"
NEEDED = ("time", "user_id", "item_id")
START_OF_COUNTS = datetime(1980, 1, 1, tzinfo=UTC)  # times of before count from a log's own start, or mean none


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


def kinds_in(source: RawTable, names: list[str], prepare: Prepare = lambda chunk: chunk) -> dict[str, Kind]:
    """Return the kinds of a prepared chunk's columns; of the ids and categories among them, `names`, as written."""
    raw = {ROW: pl.UInt32(), **source.frame.collect_schema()}
    prepared = prepare(pl.DataFrame(schema=raw)).schema
    prepared.pop(ROW)
    kinds = {name: Kind(stored, source.kinds.get(name, stored)) for name, stored in prepared.items()}
    return kinds | written_kinds(source, {name: kinds[name] for name in names if name in kinds})


def notes_of(counts: Counts) -> list[str]:
    """Return a line per thing that was counted."""
    return [f"{what.partition(': ')[0]}: {found:,} {what.partition(': ')[2]}" for what, found in counts.items()]


def sources_of(columns: dict[str, Column]) -> list[str]:
    """Return the user's columns that are read; the number of the row comes with every chunk."""
    return [column.source for column in columns.values() if column.source != ROW]


@dataclass(frozen=True)
class EventReader:
    """The samples of a file.

    columns: the mapping; prepare: makes the mapped columns of a raw chunk (joins, lists to rows), keeping ROW;
    sort: by time, in memory, unless the file is in order; rows: raw rows to a chunk; drop_missing: leave out rows
    without user, item or usable time; counts: what to note once the chunks were read.
    """

    source: RawTable
    columns: ColumnsConfig
    sort: bool = False
    prepare: Prepare = lambda chunk: chunk
    needs: tuple[str, ...] = ()  # raw columns that `prepare` reads; none: those of the mapping
    rows: int = CHUNK
    drop_missing: bool = False
    counts: Counts = field(default_factory=Counts)
    vectors: Mapping[str, VectorConfig] = field(default_factory=dict)  # those without a path are of the rows

    def mapped(self) -> tuple[EventSchema, dict[str, Column]]:
        """Return the schema and the columns to make; UserError when a column is missing."""
        return self._mapped

    @cached_property
    def _mapped(self) -> tuple[EventSchema, dict[str, Column]]:
        kinds = kinds_in(self.source, id_names(self.columns), self.prepare)
        schema = event_schema(kinds, self.columns, self.source.path)
        schema = replace(schema, row_vectors=row_vectors_of(self.source, self.vectors, kinds))
        made = event_columns(kinds, self.columns, schema, self.source.path)
        return schema, made | row_vector_columns(self.source, kinds, self.vectors, schema)

    def notes(self) -> list[str]:
        """Return what to tell the user of the chunks that were read."""
        return notes_of(self.counts)

    def chunks(self) -> Iterator[pl.DataFrame]:
        """Yield the events in the table's columns, in time order, ids unique; UserError at the first wrong row."""
        schema, columns = self.mapped()
        time = columns["time"]
        order = time.value if self.sort and not is_ordered(self.source, time) else None
        checks: list[TimeOrder | UniqueIds | UniqueKeys] = [TimeOrder()]
        if "sample_id" in columns:
            checks.append(UniqueIds(None if order is not None or self.drop_missing else self._ids))
        checks += [UniqueKeys(self._times_of_keys)] if schema.sample_key else []
        requests, done = RequestNumbers(), 0
        self.counts.clear()
        with self.source.naming_files():
            for chunk in self.source.chunks(self.wanted, order, schema.rows_at_a_time(self.rows)):
                rows, origin = self.made(chunk, done)
                rows = requests.numbered(rows)
                check_events(rows, schema, origin, HINT)
                for each in checks:
                    each.check(rows, origin)
                done += len(rows)
                yield rows.select(list(schema.columns()))

    @cached_property
    def wanted(self) -> list[str]:
        """The raw columns that are read."""
        return list(self.needs) or [*sources_of(self.mapped()[1]), *sequence_sources(self.columns)]

    @cached_property
    def _sequences(self) -> SequenceReader:
        return SequenceReader(self.columns, kinds_in(self.source, []), self.mapped()[0], self.source.path)

    def made(self, chunk: pl.DataFrame, first: int) -> tuple[pl.DataFrame, Origin]:
        """Return the events of a raw chunk, and where they came from; adds to `counts`. first: the sample id of the
        first where the rows have none. UserError at the first value that cannot be taken.
        """
        schema, columns = self.mapped()
        if self.columns.time is not None:
            kind = kinds_in(self.source, [])[self.columns.time]
            check_unit(chunk, columns["time"], self.columns.time_unit, kind, self.source.path)
        chunk = self.prepare(chunk)
        rows, origin = convert(chunk, columns, self.source.path, self.counts)
        rows, origin = self._kept(self._sequences.added(chunk, rows, self.counts), origin)
        if "sample_id" not in columns:
            rows = rows.with_columns(sample_id=pl.int_range(first, first + len(rows), dtype=pl.Int64))
        return rows, origin

    def _kept(self, rows: pl.DataFrame, origin: Origin) -> tuple[pl.DataFrame, Origin]:
        """Return the rows that have a time, a user and an item, where the others are to be left out."""
        if not self.drop_missing:
            return rows, origin
        usable = pl.all_horizontal(pl.col(*NEEDED).is_not_null(), pl.col("time").to_physical() >= 0)
        kept = rows.select(usable.fill_null(False)).to_series()
        if left_out := int((~kept).sum()):
            self.counts["drop_missing: rows without user, item or usable time left out"] += left_out
        return rows.filter(kept), replace(origin, numbers=origin.numbers.filter(kept))

    def _ids(self, count: int) -> Iterator[Array]:
        """Yield the first `count` sample ids of the file, a chunk at a time."""
        _, columns = self.mapped()
        column = columns["sample_id"]
        for chunk in self.source.chunks([column.source], rows=self.rows):
            yield chunk.select(column.value).to_series().head(count).to_numpy()
            count -= len(chunk)
            if count <= 0:
                return

    def _times_of_keys(self, keys: pl.Series) -> pl.DataFrame:
        """Return how often each of a few `keys` stands in the file: columns sample_key, len."""
        _, columns = self.mapped()
        column, found = columns["sample_key"], []
        for chunk in self.source.chunks([column.source], rows=self.rows):
            found.append(chunk.select(sample_key=column.value).filter(pl.col("sample_key").is_in(keys.implode())))
        return pl.concat(found).group_by("sample_key").len()


@dataclass
class TimeOrder:
    """Refuses a row earlier than the one before it, also the last of the chunk before, and a leap out of the 1970s."""

    last: datetime | None = None

    def check(self, rows: pl.DataFrame, origin: Origin) -> None:
        """Raise UserError for the first such row."""
        times = rows["time"]
        before = times.shift(1, fill_value=self.last)
        back = (times < before).fill_null(False).arg_true()
        if len(back):
            problem = "earlier than the row before; sort the file or set data.sort: true"
            raise origin.refuse(back[0], "time", f"{problem}; got {times[back[0]]}")
        leap = ((before < START_OF_COUNTS) & (times >= ERA)).fill_null(False).arg_true()
        if len(leap):
            problem = f"the rows before it lie in {before[leap[0]].year}: have they no time? Give it, or leave them out"
            raise origin.refuse(leap[0], "time", f"{problem}; got {times[leap[0]]}")
        self.last = times[-1] if len(times) else self.last


def behavior_rows(
    source: RawTable,
    columns: BehaviorsConfig,
    schema: EventSchema,
    prepare: Prepare = lambda chunk: chunk,
    needs: tuple[str, ...] = (),
    counts: Counts | None = None,
) -> Iterator[pl.DataFrame]:
    """Yield behaviors in time order; rows without user or item are left out, and counted in `counts`. A file out of
    order is sorted in memory.
    """
    kinds = kinds_in(source, [columns.user, columns.item, *([columns.action] if columns.action else [])], prepare)
    made = behavior_columns(kinds, columns, schema, source.path)
    time, kind = made["time"], kinds_in(source, [])[columns.time]
    order = None if is_ordered(source, time) else time.value
    counts = Counts() if counts is None else counts
    counts.clear()
    with source.naming_files():
        for chunk in source.chunks(list(needs) or [column.source for column in made.values()], order):
            check_unit(chunk, time, columns.time_unit, kind, source.path)
            rows, origin = convert(prepare(chunk), made, source.path, counts)
            check_times(rows, origin)
            kept = rows.drop_nulls(["user_id", "item_id"])
            if len(kept) < len(rows):
                counts["behaviors: rows without user or item left out"] += len(rows) - len(kept)
            yield kept

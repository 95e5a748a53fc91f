"""A table's events by several workers: each reads, checks and writes chunks of its own, and one commit takes them all.

    plan      the chunks that one process alone would read, so the files have the same rows whoever writes them
    part      a chunk: read, converted, checked by itself, written as `ingest-NUMBER` into the events table
    across    here: times that fall and sample ids that come again from one chunk to a later one
    commit    all files at once

What needs the rows before it to read a row is read by one process: `whole_only` says why.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property, lru_cache, partial
from pathlib import Path

import numpy as np
import polars as pl
from deltalake.transaction import AddAction

from recdistill.config.data import DataConfig, SamplingConfig
from recdistill.data.readers.columns import Counts
from recdistill.data.readers.numbering import UniqueIds
from recdistill.data.readers.rows import HINT, EventReader, TimeOrder
from recdistill.data.readers.slices import Chunk, chunks_of, numbered_by, read_chunk, starts_of
from recdistill.data.readers.tabular import event_reader
from recdistill.errors import UserError
from recdistill.storage.location import Location
from recdistill.tables.delta.files import staged_rows
from recdistill.tables.delta.types import TIME
from recdistill.tables.events import EventLog
from recdistill.tables.validation import Origin, RowError, check_events, check_label_times
from recdistill.typing import Array
from recdistill.workers.parts import Workers, in_parts

__all__ = ["Job", "Part", "ingest_parts", "planned", "whole_only", "write_part"]


@dataclass(frozen=True)
class Job:
    """What every worker knows. folder: which the paths of `data` are relative to; table: the events, empty.

    starts, version: of the log when the plan was made; window: whether labels have one.
    """

    data: DataConfig
    folder: Path
    table: Location
    starts: tuple[int, ...]
    version: str
    window: bool


@dataclass(frozen=True)
class Part:
    """A chunk of the log."""

    chunk: Chunk
    path: Path

    def __str__(self) -> str:
        """Return its name in messages."""
        return f"{self.path}: rows {self.chunk.first:,} to {self.chunk.first + self.chunk.rows:,}"


@dataclass(frozen=True)
class Written:
    """The files of a part, and what is to be checked across parts.

    row: the number of its first row; times: of the first and the last; ids: likewise; rising: whether all ids rise;
    counts: to be noted.
    """

    part: Part
    files: list[AddAction]
    rows: int
    row: int
    times: tuple[datetime, datetime]
    ids: tuple[int, int]
    rising: bool
    counts: Counts


def whole_only(config: DataConfig, folder: Path) -> str:
    """Return why one process has to read a log, '' where several can."""
    settings = {
        f"data.reader: {config.reader} reads its files one after the other": config.reader != "table",
        "data.negatives are drawn from the rows before": config.negatives is not None,
        "data.sampling leaves rows out": config.sampling != SamplingConfig(),
        "data.limit takes the first rows": config.limit is not None,
        "features are joined from data.items or data.users": config.items is not None or config.users is not None,
        "data.sort sorts in memory": config.sort,
    }
    if found := [why for why, holds in settings.items() if holds]:
        return found[0]
    reader = event_reader(config, folder)
    schema, made = reader.mapped()
    numbered = "sample_id" not in made
    request = made.get("request_id")
    text = request is not None and reader.source.frame.select(request.value).collect_schema().dtypes() == [pl.String]
    needs = {
        "only Parquet and Delta can be read from any row on": not reader.source.slices,
        "sample ids of text are numbered in order": schema.sample_key,
        "requests named by text are numbered in order": text,
        "rows are numbered and data.drop_missing leaves some out": numbered and config.drop_missing,
    }
    return next((why for why, holds in needs.items() if holds), "")


@lru_cache(1)
def _reader(config: str, folder: Path) -> EventReader:
    return event_reader(DataConfig.model_validate_json(config), folder)


def _part_rows(job: Job, part: Part) -> tuple[EventReader, pl.DataFrame, Origin]:
    """Return the events of a part, checked by themselves; UserError for a wrong row, and a log that has changed."""
    reader = _reader(job.data.model_dump_json(), job.folder)
    if reader.source.version != job.version:
        raise UserError(f"{part.path}: changed while it was read; run the command again once nobody writes to it")
    reader.counts.clear()
    with numbered_by(reader.source, job.starts).naming_files():
        rows, origin = reader.made(read_chunk(reader.source, part.chunk, reader.wanted), part.chunk.first)
        schema, _ = reader.mapped()
        check_events(rows, schema, origin, HINT)
        TimeOrder().check(rows, origin)
    return reader, rows.select(list(schema.columns())), origin


def write_part(job: Job, part: Part) -> Written:
    """Write a part of the events, in place of what is there of it; UserError for a wrong row."""
    reader, rows, origin = _part_rows(job, part)
    schema, made = reader.mapped()
    numbers = pl.int_range(part.chunk.first, part.chunk.first + len(rows), eager=True)
    names = {name: column.source for name, column in made.items()}
    check_label_times(rows, schema.label_times, Origin(str(part.path), numbers, names), job.window)
    files = EventLog.open(job.table).stage(rows, _name(part.chunk.number), str(part.path))
    if not len(rows):
        now = datetime.min
        return Written(part, files, 0, 0, (now, now), (0, 0), True, Counts(reader.counts))
    ids, time = rows["sample_id"].to_numpy(), rows["time"]
    return Written(
        part,
        files,
        len(rows),
        int(origin.numbers[0]),
        (time[0], time[-1]),
        (int(ids[0]), int(ids[-1])),
        bool((np.diff(ids) > 0).all()),
        Counts(reader.counts),
    )


def _name(number: int) -> str:
    return f"ingest-{number:08d}"


@dataclass
class _Across:
    """What holds from one part to the next: times do not fall, and a sample id stands once."""

    job: Job
    order: TimeOrder = field(default_factory=TimeOrder)
    done: list[Written] = field(default_factory=list)

    @cached_property
    def ids(self) -> UniqueIds:
        """The ids so far."""
        return UniqueIds(self._before)

    def check(self, written: Written) -> None:
        """Raise UserError where the rows of a part do not follow those before."""
        if written.rows:
            try:
                first = pl.DataFrame({"time": [written.times[0]]}, schema_overrides={"time": TIME})
                self.order.check(first, Origin("", pl.Series([0])))
                if not (written.rising and self.ids.rises(*written.ids, written.rows)):
                    self.ids.check(self._ids_of(written), Origin("", pl.int_range(written.rows, eager=True)))
            except RowError:
                self._refuse(written.part)
            self.order.last = written.times[1]
        self.done.append(written)

    def _refuse(self, part: Part) -> None:
        """Find the wrong row again, where it stands in its file."""
        reader, rows, origin = _part_rows(self.job, part)
        with numbered_by(reader.source, self.job.starts).naming_files():
            self.order.check(rows, origin)
            self.ids.check(rows, origin)

    def _before(self, count: int) -> Iterator[Array]:
        for written in self.done:
            yield self._ids_of(written)["sample_id"].to_numpy()

    def _ids_of(self, written: Written) -> pl.DataFrame:
        return pl.concat(staged_rows(self.job.table, written.files, {"sample_id": pl.Int64()}))


def planned(config: DataConfig, folder: Path, table: Location, window: bool) -> tuple[Job, list[Part]]:
    """Return the plan for a log that is not `whole_only`. folder: which the paths of `config` are relative to; table:
    the events, made and empty; window: whether labels have one.
    """
    reader = event_reader(config, folder)
    starts = starts_of(reader.source)
    rows = reader.mapped()[0].rows_at_a_time(reader.rows)
    job = Job(config, folder, table, tuple(starts), reader.source.version, window)
    return job, [Part(chunk, reader.source.path) for chunk in chunks_of(starts, rows)]


def ingest_parts(
    job: Job, parts: Sequence[Part], workers: Workers, progress: Callable[[int], None]
) -> tuple[int, Counts]:
    """Fill the events table with a plan's parts in one commit; return the rows and what is to be noted.

    `progress` is called with the rows so far. Raises UserError for the first wrong row.
    """
    across, counts, done = _Across(job), Counts(), 0
    try:
        for written in in_parts(partial(write_part, job), parts, workers):
            across.check(written)
            counts.update(written.counts)
            done += written.rows
            progress(done)
    finally:
        _reader.cache_clear()  # another log may lie there when this process reads again
    files: Sequence[AddAction] = [file for written in across.done for file in written.files]
    EventLog.open(job.table).commit_staged(files, writer="ingest", sequence=0)
    return done, counts

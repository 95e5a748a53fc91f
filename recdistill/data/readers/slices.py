"""A table cut where its chunks begin, so that each of them can be read without those before it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

import polars as pl

from recdistill.data.readers.files import ROW, RawTable, check_pages, quietly, reading

__all__ = ["Chunk", "Slice", "chunks_of", "numbered_by", "read_chunk", "starts_of"]


@dataclass(frozen=True)
class Slice:
    """Rows [at, at + rows) of the file of this number."""

    file: int
    at: int
    rows: int


@dataclass(frozen=True)
class Chunk:
    """Neighbouring rows of a table, from its row `first` on. number: among the table's chunks."""

    number: int
    first: int
    slices: tuple[Slice, ...]

    @property
    def rows(self) -> int:
        """Return how many there are."""
        return sum(one.rows for one in self.slices)


def _files(source: RawTable) -> list[pl.LazyFrame]:
    return [frame for _, frame in source.parts] or [source.frame]


def starts_of(source: RawTable) -> list[int]:
    """Return the number of the first row of each file, and of the row after the last."""
    with reading(source.path):
        return [0, *accumulate(quietly(frame.select(pl.len())).item() for frame in _files(source))]


def chunks_of(starts: Sequence[int], rows: int) -> list[Chunk]:
    """Return the chunks that `RawTable.chunks` yields of a table that can be sliced: at most `rows` rows each, of one
    file or of neighbouring ends of several. starts: see `starts_of`.
    """
    slices = [
        Slice(file, at, min(rows, high - low - at))
        for file, (low, high) in enumerate(zip(starts[:-1], starts[1:], strict=True))
        for at in range(0, high - low, rows)
    ]
    groups: list[list[Slice]] = []
    for one in slices:
        if groups and sum(each.rows for each in groups[-1]) + one.rows <= rows:
            groups[-1].append(one)
        else:
            groups.append([one])
    return [Chunk(k, starts[group[0].file] + group[0].at, tuple(group)) for k, group in enumerate(groups)]


def read_chunk(source: RawTable, chunk: Chunk, columns: Sequence[str]) -> pl.DataFrame:
    """Return ROW and `columns` of a chunk, the rows numbered as in the whole table."""
    frames, wanted = _files(source), list(dict.fromkeys(columns))
    paths = [path for path, _ in source.parts] or [source.path]
    found = []
    for one in chunk.slices:
        with reading(paths[one.file]):
            check_pages(paths[one.file], wanted, range(one.at, one.at + one.rows))
            found.append(quietly(frames[one.file].select(wanted).slice(one.at, one.rows)))
    rows = pl.concat(found, rechunk=True)
    numbers = pl.int_range(chunk.first, chunk.first + len(rows), dtype=pl.Int64, eager=True)
    return rows.insert_column(0, numbers.alias(ROW))


def numbered_by(source: RawTable, starts: Sequence[int]) -> RawTable:
    """Return a table whose errors name the file of a row that was read by `read_chunk`."""
    return replace(source, starts=list(starts[:-1])) if source.parts else source

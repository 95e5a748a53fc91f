"""Some rows of a log, however large it is: the first, and others spread over the rest where a file can be entered
anywhere.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

import polars as pl

from recdistill.data.readers.files import RawTable, check_pages, quietly, reading

__all__ = ["HEAD", "Sample", "sample_of"]

HEAD = 10_000  # first rows
SLICES, SLICE = 20, 500  # places in the rest, and rows at each
MAX_PARTS = 1_000  # files whose rows are counted
Part = tuple[Path, pl.LazyFrame]


@dataclass(frozen=True)
class Sample:
    """rows: in the log's order, raw; total: rows of the log, None where only reading it all would show them; looked:
    which rows these are, for the user.
    """

    rows: pl.DataFrame
    total: int | None
    looked: str

    @property
    def whole(self) -> bool:
        """Whether these are all of the log's rows."""
        return self.total == len(self.rows)


def sample_of(source: RawTable) -> Sample:
    """Return at most HEAD + SLICES * SLICE rows of a log. UserError for one that cannot be read.

    Of text the first rows of every file are within reach, of Parquet and Delta any. Of Parquet only the row groups
    where these rows stand are read.
    """
    parts = source.parts or ((source.path, source.frame),)
    with reading(source.path):
        if source.slices and len(parts) <= MAX_PARTS:
            return _of_slices(parts)
        return _of_heads(parts)


def _of_slices(parts: Sequence[Part]) -> Sample:
    sizes = [quietly(frame.select(pl.len())).item() for _, frame in parts]
    total = sum(sizes)
    if total <= HEAD + SLICES * SLICE:
        return Sample(pl.concat(_cut(parts, sizes, [(0, total)])), total, f"all {total:,} rows")
    step = (total - HEAD - SLICE) // (SLICES - 1)
    spread = [(HEAD + k * step, SLICE) for k in range(SLICES)]
    rows = pl.concat(_cut(parts, sizes, [(0, HEAD), *spread]))
    return Sample(rows, total, f"the first {HEAD:,} of {total:,} rows, and {SLICES * SLICE:,} spread over the others")


def _cut(parts: Sequence[Part], sizes: Sequence[int], wanted: Sequence[tuple[int, int]]) -> Iterator[pl.DataFrame]:
    """Yield the rows [at, at + rows) of the whole for each (at, rows), those of a file after one look at its pages."""
    ends = list(accumulate(sizes))
    pieces: dict[int, list[tuple[int, int]]] = {}
    for at, rows in wanted:
        for k in range(bisect_right(ends, at), len(parts)):
            start = ends[k] - sizes[k]
            low, high = max(at, start), min(at + rows, ends[k])
            if low >= high:
                break
            pieces.setdefault(k, []).append((low - start, high - low))
    yield quietly(parts[0][1].head(0))
    for k in sorted(pieces):
        path, frame = parts[k]
        check_pages(path, frame.collect_schema().names(), [row for at, n in pieces[k] for row in (at, at + n - 1)])
        yield from (quietly(frame.slice(at, rows)) for at, rows in pieces[k])


def _of_heads(parts: Sequence[Part]) -> Sample:
    found: list[pl.DataFrame] = []
    left, used = HEAD + 1, 0
    while left > 0 and used < len(parts):
        found.append(quietly(parts[used][1].head(left)))
        left, used = left - len(found[-1]), used + 1
    rows = pl.concat(found)
    if left > 0:
        return Sample(rows, len(rows), f"all {len(rows):,} rows")
    others = parts[used :: max(1, -(-(len(parts) - used) // SLICES))]
    more = [quietly(frame.head(SLICE)) for _, frame in others]
    words = f", and the first {SLICE} of {len(others)} other files" if others else ""
    return Sample(pl.concat([rows.head(HEAD), *more]), None, f"the first {HEAD:,} rows{words}")

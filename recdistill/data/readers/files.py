"""Files in chunks of raw columns, in memory that does not grow with
it.

Parquet and Delta are read slice by slice, text by the streaming engine in small pieces. (Measured with polars 2.1, 6
million rows of six columns, anonymous memory of an ingest that takes 360 MB of 600,000 rows: 450 of CSV, 750 with the
engine's own sizes.)
"""

from __future__ import annotations

import os
import tempfile
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from deltalake.exceptions import DeltaError
from polars.exceptions import PanicException, PolarsError

from recdistill.data.readers.base import Source
from recdistill.errors import UserError
from recdistill.tables.delta.files import gathered
from recdistill.tables.validation import RowError

__all__ = [
    "CHUNK",
    "INFER",
    "ROW",
    "RawTable",
    "check_pages",
    "find_files",
    "matching",
    "quietly",
    "read_latin1",
    "reading",
    "refuse_empty",
    "scan_csv",
    "scan_text",
]

CHUNK = 262_144  # rows per commit
ROW = "\0row"  # column that counts the rows of the file from 0, its header left out; no user's may be called so
INFER = 10_000  # rows that decide the types of a CSV file
BATCHES = 8  # of a chunk of text: the engine holds several ahead
# Bytes of CSV that the engine reads at a time, many pieces ahead: of its own 32 MiB up to 400 MB.
os.environ.setdefault("POLARS_CSV_CHUNK_SIZE", str(1 << 20))


@dataclass(frozen=True)
class RawTable:
    """path: for messages; frame: raw columns; kinds: their types, of text as its first rows suggest.

    slices: whether any part can be read without what stands before it. parts: the files that it is made of, in order,
    where there are several; absent: how many of them lack a column. starts: the number of the first row of each, as far
    as they were read. version: of a Delta table, with its id. UserError for a column that is called as ROW is.
    """

    path: Path
    frame: pl.LazyFrame
    kinds: dict[str, pl.DataType]
    slices: bool = False
    parts: tuple[tuple[Path, pl.LazyFrame], ...] = ()
    absent: dict[str, int] = field(default_factory=dict)
    starts: list[int] = field(default_factory=list)
    version: str = ""

    def __post_init__(self) -> None:
        if ROW in self.kinds:
            raise UserError(f"{self.path}: a column is called {ROW!r}, which no column of a log can be; rename it")

    def where(self, condition: pl.Expr) -> RawTable:
        """Return the rows that satisfy `condition`, their row numbers those of the file."""
        return RawTable(self.path, self._numbered().filter(condition), self.kinds)

    def chunks(self, columns: list[str], order: pl.Expr | None = None, rows: int = CHUNK) -> Iterator[pl.DataFrame]:
        """Yield ROW and `columns`, at most `rows` rows at a time; with `order` all are sorted by it first,
        in memory.
        """
        wanted = list(dict.fromkeys(columns))
        if order is not None:
            with reading(self.path):
                found = pl.concat(self._of_parts(wanted, rows)) if self.parts else self._selected(wanted).collect()
                whole = found.sort(order, maintain_order=True)
            yield from (whole.slice(at, rows) for at in range(0, len(whole), rows))
        elif self.parts:
            yield from gathered(self._of_parts(wanted, rows), rows)
        elif self.slices:
            yield from _numbered(_batches(self.path, self.frame.select(wanted), rows, slices=True))
        else:
            yield from _batches(self.path, self._selected(wanted), rows, self.slices)

    @property
    def source(self) -> Source:
        """What is read."""
        files = tuple(path for path, _ in self.parts) or (self.path,)
        return Source(self.path, () if self.version else files, self.version)

    def _selected(self, columns: list[str]) -> pl.LazyFrame:
        return self._numbered().select(ROW, *columns)

    def _of_parts(self, columns: list[str], rows: int) -> Iterator[pl.DataFrame]:
        """Yield the files' chunks in order, rows numbered over all of them."""
        done = 0
        for k, (path, frame) in enumerate(self.parts):
            if k == len(self.starts):
                self.starts.append(done)
            for chunk in _numbered(_batches(path, frame.select(columns), rows, self.slices), done):
                done += len(chunk)
                yield chunk

    @contextmanager
    def naming_files(self) -> Iterator[None]:
        """Turn an error about a row of this table into one about the file where it stands, and the row there."""
        try:
            yield
        except RowError as error:
            if not self.starts:
                raise
            k = bisect_right(self.starts, error.row) - 1
            raise error.at(str(self.parts[k][0]), error.row - self.starts[k]) from None

    def _numbered(self) -> pl.LazyFrame:
        numbered = ROW in self.frame.collect_schema()
        return self.frame if numbered else self.frame.with_row_index(ROW)


def _numbered(frames: Iterator[pl.DataFrame], first: int = 0) -> Iterator[pl.DataFrame]:
    """Yield `frames` with ROW before their columns. Not asked of the engine: of a numbered file it reads all that
    stands before a slice, again for each.
    """
    for frame in frames:
        numbers = pl.int_range(first, first + len(frame), dtype=pl.Int64, eager=True)
        first += len(frame)
        yield frame.insert_column(0, numbers.alias(ROW))


def _batches(path: Path, frame: pl.LazyFrame, rows: int, slices: bool) -> Iterator[pl.DataFrame]:
    """Yield the rows of one file in order, at most `rows` at a time."""
    with reading(path):
        if slices:
            check_pages(path, frame.collect_schema().names())
            total = quietly(frame.select(pl.len())).item()
            yield from (quietly(frame.slice(at, rows)) for at in range(0, total, rows))
        else:
            yield from gathered(frame.collect_batches(chunk_size=-(-rows // BATCHES), maintain_order=True), rows)


def check_pages(path: Path, columns: list[str], at: Sequence[int] | None = None) -> None:
    """Raise OSError or ArrowException where a page of a Parquet file is damaged, or other than its checksum.

    Arrow decodes everything once, a twentieth of the time that ingest takes: polars checks less, and over a page with a
    wild count it ends the process. at: only the row groups where these rows stand.
    """
    if not path.is_file():  # a frame, or a Delta table that only polars can read
        return
    with suppress(pa.ArrowNotImplementedError):  # a type that only polars has
        file = pq.ParquetFile(pa.memory_map(str(path)), page_checksum_verification=True)
        known = [name for name in columns if name in file.schema_arrow.names]
        groups = None if at is None else _groups_of(file, at)
        for _ in file.iter_batches(batch_size=CHUNK // 4, columns=known, use_threads=False, row_groups=groups):
            continue


def _groups_of(file: pq.ParquetFile, rows: Sequence[int]) -> list[int]:
    """Return the row groups that hold these rows."""
    ends = list(accumulate(file.metadata.row_group(k).num_rows for k in range(file.num_row_groups)))
    return [int(k) for k in np.unique(np.searchsorted(ends, np.asarray(rows, np.int64), "right")) if k < len(ends)]


def quietly(query: pl.LazyFrame) -> pl.DataFrame:
    """Return the result of a query, with nothing on the standard error from a library that panics.

    Damaged Parquet can make it do so, and print where in its code: what is written meanwhile is held back, and dropped.
    """
    try:
        real = os.dup(2)
    except OSError:  # there is none
        return query.collect()
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            found = query.collect()
        except PanicException:
            held.truncate(0)
            raise
        finally:
            os.dup2(real, 2)
            os.close(real)
            held.seek(0)
            if left := held.read():
                os.write(2, left)
    return found


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn what goes wrong while a file is read into a UserError that names it."""
    try:
        yield
    except PermissionError:
        raise UserError(f"{path}: no permission to read it") from None
    except UserError:
        raise
    except (PolarsError, PanicException, DeltaError, pa.ArrowException, OSError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"{path}: cannot be read as a table, damaged or not what its name says: {reason}") from None


def refuse_empty(path: Path) -> None:
    """Raise UserError for a file without a byte."""
    with path.open("rb") as file:
        if not file.read(1):
            raise UserError(f"{path}: the file is empty")


def scan_csv(paths: list[Path], separator: str = ",") -> RawTable:
    """Return CSV files with one header, in order, as one; every value is text, so that a wrong one can be shown."""
    with reading(paths[0]):
        for path in paths:
            refuse_empty(path)
        kinds = dict(pl.scan_csv(paths[0], separator=separator, infer_schema_length=INFER, glob=False).collect_schema())
        frame = pl.scan_csv(paths, separator=separator, schema=dict.fromkeys(kinds, pl.String()), glob=False)
        return RawTable(paths[0] if len(paths) == 1 else paths[0].parent, frame, kinds)


def scan_text(path: Path, columns: dict[str, pl.DataType], separator: str) -> RawTable:
    """Return text without header or quotes, `columns` in order, with the types they are to be made into."""
    with reading(path):
        refuse_empty(path)
        lines = pl.scan_csv(
            path, separator="\x01", has_header=False, quote_char=None, glob=False, schema={"line": pl.String()}
        )
        fields = pl.col("line").str.split_exact(separator, len(columns) - 1).struct.rename_fields(list(columns))
        filled = lines.select(fields).unnest("line").with_columns(pl.when(pl.all() != "").then(pl.all()))
        return RawTable(path, filled, columns)


def read_latin1(path: Path, columns: list[str], separator: str) -> pl.DataFrame:
    """Return a small Latin-1 text without header or quotes as columns of strings."""
    with reading(path):
        lines = path.read_text(encoding="latin-1").splitlines()
    fields = pl.col("line").str.split_exact(separator, len(columns) - 1).struct.rename_fields(columns)
    return pl.DataFrame({"line": lines}, schema={"line": pl.String()}).select(fields).unnest("line")


def matching(folder: Path, *patterns: str) -> Iterator[Path]:
    """Yield the files of a publisher's folder that match, in it or one level below."""
    return (path for pattern in patterns for where in (pattern, f"*/{pattern}") for path in folder.glob(where))


def find_files(folder: Path, *patterns: str) -> list[Path]:
    """Return the files of one publisher's folder that match, by name, in it or one level below; UserError when none."""
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; check data.path and --data")
    found = list(matching(folder, *patterns))
    if not found:
        raise UserError(
            f"{folder}: holds no {' or '.join(patterns)}; data.path is the folder as its publisher gives it"
        )
    return sorted(found, key=lambda path: (path.name, path))

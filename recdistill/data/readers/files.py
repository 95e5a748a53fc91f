"""Files in chunks of raw columns: any Parquet, CSV, Delta table or headerless text, in memory that does not grow with
it.

Parquet and Delta are read slice by slice, text by the streaming engine. (Measured with polars 2.1, 32 million rows of
seven columns: slices stay at 160 MB where the streaming engine's batches reach 400; of CSV, 500 from 8 million rows
on.)
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import polars as pl
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError
from polars.exceptions import PanicException, PolarsError

from recdistill.errors import UserError

__all__ = ["CHUNK", "ROW", "RawTable", "find_files", "read_latin1", "scan_csv", "scan_file", "scan_text"]

CHUNK = 262_144  # rows per commit
ROW = "\0row"  # column that counts the rows of the file from 0, its header left out; no user's can be called so
INFER = 10_000  # rows that decide the types of a CSV file


@dataclass(frozen=True)
class RawTable:
    """path: for messages; frame: raw columns; kinds: their types, of text as its first rows suggest.

    slices: whether any part can be read without what stands before it.
    """

    path: Path
    frame: pl.LazyFrame
    kinds: dict[str, pl.DataType]
    slices: bool = False

    def where(self, condition: pl.Expr) -> RawTable:
        """Return the rows that satisfy `condition`, their row numbers those of the file."""
        return RawTable(self.path, self._numbered().filter(condition), self.kinds)

    def chunks(self, columns: list[str], order: pl.Expr | None = None, rows: int = CHUNK) -> Iterator[pl.DataFrame]:
        """Yield ROW and `columns`, at most `rows` rows at a time; with `order` all are sorted by it first,
        in memory.
        """
        frame = self._numbered().select(ROW, *dict.fromkeys(columns))
        with reading(self.path):
            if order is not None:
                whole = frame.sort(order, maintain_order=True).collect()
                yield from (whole.slice(at, rows) for at in range(0, len(whole), rows))
            elif self.slices:
                total = self.frame.select(pl.len()).collect().item()
                yield from (frame.slice(at, rows).collect() for at in range(0, total, rows))
            else:
                yield from frame.collect_batches(chunk_size=rows, maintain_order=True)

    def _numbered(self) -> pl.LazyFrame:
        numbered = ROW in self.frame.collect_schema()
        return self.frame if numbered else self.frame.with_row_index(ROW)


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn what goes wrong while a file is read into a UserError that names it."""
    try:
        yield
    except PermissionError:
        raise UserError(f"{path}: no permission to read it") from None
    except (PolarsError, PanicException, DeltaError, OSError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"{path}: cannot be read as a table, damaged or not what its name says: {reason}") from None


def scan_file(path: Path) -> RawTable:
    """Return a Parquet file, CSV file (.csv, .tsv) or Delta folder; UserError when missing, empty, or unreadable."""
    if not path.exists():
        raise UserError(f"{path}: no such file; check data.path and --data")
    with reading(path):
        if path.suffix in (".csv", ".tsv"):
            return scan_csv([path], "\t" if path.suffix == ".tsv" else ",")
        if path.is_dir():
            frame = pl.scan_delta(DeltaTable(str(path)))
        else:
            _refuse_empty(path)
            frame = pl.scan_parquet(path)
        return RawTable(path, frame, dict(frame.collect_schema()), slices=True)


def _refuse_empty(path: Path) -> None:
    with path.open("rb") as file:
        if not file.read(1):
            raise UserError(f"{path}: the file is empty")


def scan_csv(paths: list[Path], separator: str = ",") -> RawTable:
    """Return CSV files with one header, in order, as one; every value is text, so that a wrong one can be shown."""
    with reading(paths[0]):
        for path in paths:
            _refuse_empty(path)
        kinds = dict(pl.scan_csv(paths[0], separator=separator, infer_schema_length=INFER).collect_schema())
        as_text = {name: pl.Boolean() if kind == pl.Boolean else pl.String() for name, kind in kinds.items()}
        frame = pl.scan_csv(paths, separator=separator, schema=as_text)
        return RawTable(paths[0] if len(paths) == 1 else paths[0].parent, frame, kinds)


def scan_text(path: Path, columns: dict[str, pl.DataType], separator: str) -> RawTable:
    """Return text without header or quotes, `columns` in order, with the types they are to be made into."""
    with reading(path):
        _refuse_empty(path)
        lines = pl.scan_csv(path, separator="\x01", has_header=False, quote_char=None, schema={"line": pl.String()})
        fields = pl.col("line").str.split_exact(separator, len(columns) - 1).struct.rename_fields(list(columns))
        filled = lines.select(fields).unnest("line").with_columns(pl.when(pl.all() != "").then(pl.all()))
        return RawTable(path, filled, columns)


def read_latin1(path: Path, columns: list[str], separator: str) -> pl.DataFrame:
    """Return a small Latin-1 text without header or quotes as columns of strings."""
    with reading(path):
        lines = path.read_text(encoding="latin-1").splitlines()
    fields = pl.col("line").str.split_exact(separator, len(columns) - 1).struct.rename_fields(columns)
    return pl.DataFrame({"line": lines}, schema={"line": pl.String()}).select(fields).unnest("line")


def find_files(folder: Path, *patterns: str) -> list[Path]:
    """Return the files of one publisher's folder that match, by name, in it or one level below; UserError when none."""
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; check data.path and --data")
    found = [path for pattern in patterns for where in (pattern, f"*/{pattern}") for path in folder.glob(where)]
    if not found:
        raise UserError(
            f"{folder}: holds no {' or '.join(patterns)}; data.path is the folder as its publisher gives it"
        )
    return sorted(found, key=lambda path: path.name)

"""Many files as one table: each is read by itself, its columns brought into the order and the types of all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from recdistill.config.data import TextLayout
from recdistill.data.readers.columns import TEXT
from recdistill.data.readers.files import INFER, RawTable, reading, refuse_empty
from recdistill.data.readers.paths import DataFile
from recdistill.data.readers.texts import check_first_row, refuse_layout, scan_lines
from recdistill.errors import UserError, printable
from recdistill.tables.delta.types import TIME

__all__ = ["Kinds", "Piece", "as_table", "pieces_of"]

FEW = 100  # rows that show which columns a further file has
Kinds = dict[str, pl.DataType]


@dataclass(frozen=True)
class Piece:
    """A file's own rows. kinds: types that its columns are to be made into, as text is made into numbers."""

    path: Path
    frame: pl.LazyFrame
    stored: Kinds
    kinds: Kinds


def pieces_of(files: Sequence[DataFile], layout: TextLayout) -> list[Piece]:
    """Return the files as pieces, with what their folders say as columns. UserError for one that cannot be read, or is
    not laid out as `layout` says.

    A column of text is typed by the first rows of the first file that has it, so not by a header alone.
    """
    folders = _folder_kinds(files)
    if files[0].form in ("parquet", "jsonl"):
        refuse_layout(files[0].path, layout, files[0].form)
    pieces = [_parquet(file.path) for file in files] if files[0].form == "parquet" else _texts(files, layout)
    return [_with_folders(piece, file, folders) for file, piece in zip(files, pieces, strict=True)]


def _with_folders(piece: Piece, file: DataFile, folders: Kinds) -> Piece:
    given = {name: kind for name, kind in folders.items() if name in file.partition and name not in piece.stored}
    values = [pl.lit(file.partition[name]).cast(kind).alias(name) for name, kind in given.items()]
    frame = piece.frame.with_columns(values) if given else piece.frame
    return Piece(piece.path, frame, piece.stored | given, piece.kinds | given)


def _parquet(path: Path) -> Piece:
    with reading(path):
        refuse_empty(path)
        frame = pl.scan_parquet(path, hive_partitioning=False, glob=False)
        kinds = dict(frame.collect_schema())
        return Piece(path, frame, kinds, kinds)


def _texts(files: Sequence[DataFile], layout: TextLayout) -> list[Piece]:
    """Return text files with one type for each column; of JSON lines each file has every column."""
    typed: Kinds = {}
    names = []
    for file in files:
        with reading(file.path):
            refuse_empty(file.path)
            _refuse_array(file.path) if file.form == "jsonl" else check_first_row(file, layout)
            found = scan_lines(file, layout, FEW if typed else INFER).collect_schema()
            if not found.keys() <= typed.keys():
                found = scan_lines(file, layout, INFER).collect_schema()
            new = {name: kind for name, kind in found.items() if typed.get(name, pl.Null()) == pl.Null}
            rows = len(files) == 1 or (new and len(scan_lines(file, layout, FEW).head(1).collect()))
        typed |= new if rows else {}
        names.append(list(found))
    typed = {name: pl.String() if kind == pl.Null else kind for name, kind in typed.items()}
    own = [list(typed) if files[0].form == "jsonl" else found for found in names]
    return [
        _text(file, layout, {name: typed.get(name, pl.String()) for name in found})
        for file, found in zip(files, own, strict=True)
    ]


def _refuse_array(path: Path) -> None:
    with path.open("rb") as content:
        if content.read(FEW).lstrip().startswith(b"["):
            raise UserError(f"{path}: one list of JSON; write each row as an object on a line of its own")


def _text(file: DataFile, layout: TextLayout, kinds: Kinds) -> Piece:
    stored = {name: _as_read(kind) for name, kind in kinds.items()}
    return Piece(file.path, scan_lines(file, layout, FEW, stored), stored, kinds)


def _as_read(kind: pl.DataType) -> pl.DataType:
    """Return the type that a column of text is read as: text wherever it can be, so that a wrong value can be shown."""
    return kind if kind.is_nested() else pl.String()


def _folder_kinds(files: Sequence[DataFile]) -> Kinds:
    """Return the columns that folders give: integers where every value is one as it is written, else text."""
    values: dict[str, set[str]] = {}
    for file in files:
        for name, value in file.partition.items():
            values.setdefault(name, set()).update({value} if value is not None else ())
    return {name: pl.Int64() if all(map(_is_integer, found)) else pl.String() for name, found in values.items()}


def _is_integer(text: str) -> bool:
    return (
        len(text) < 19
        and text.removeprefix("-").isascii()
        and text.removeprefix("-").isdigit()
        and str(int(text)) == text
    )


def as_table(path: Path, pieces: Sequence[Piece], slices: bool) -> RawTable:
    """Return the pieces, in their order, as one table; a column that one lacks is null there.

    Raises UserError for a column whose types in two of them have nothing in common.
    """
    if len(pieces) == 1 and pieces[0].path == path:
        return RawTable(path, pieces[0].frame, pieces[0].kinds, slices)
    stored, kinds = _common(pieces)
    frames = [(piece.path, _aligned(piece, stored)) for piece in pieces]
    have = Counter(name for piece in pieces for name in piece.stored)
    absent = {name: len(pieces) - have[name] for name in kinds if have[name] < len(pieces)}
    return RawTable(path, pl.concat([frame for _, frame in frames]), kinds, slices, tuple(frames), absent)


def _common(pieces: Sequence[Piece]) -> tuple[Kinds, Kinds]:
    """Return (the types that columns are read as, the types that they are to be made into)."""
    first: dict[str, Piece] = {}
    stored: Kinds = {}
    kinds: Kinds = {}
    for piece in pieces:
        for name, kind in piece.kinds.items():
            if name not in kinds or kinds[name] == pl.Null:
                first[name], stored[name], kinds[name] = piece, piece.stored[name], kind
            elif kind not in (kinds[name], pl.Null()):
                both = _common_kind(kinds[name], kind)
                if both is None:
                    there = f"{kinds[name]} in {first[name].path.name}"
                    raise UserError(f"{piece.path}: column '{printable(name)}' is {kind}, but {there}; write it alike")
                mixed = kinds[name].is_integer() != kind.is_integer()  # of numbers, text keeps every digit
                stored[name] = pl.String() if both.is_float() and (mixed or stored[name] == pl.String) else both
                kinds[name] = both
    return stored, kinds


def _common_kind(one: pl.DataType, other: pl.DataType) -> pl.DataType | None:
    """Return the type that holds both, None where there is none."""
    if isinstance(one, pl.List) and isinstance(other, pl.List):
        inner = _common_kind(one.inner, other.inner) if one.inner != other.inner else one.inner  # type: ignore[arg-type]
        return None if inner is None else pl.List(inner)
    if one == pl.Null or other == pl.Null:
        return other if one == pl.Null else one
    for alike, made in (
        (lambda kind: isinstance(kind, TEXT), pl.String()),
        (lambda kind: kind.is_integer(), pl.Int64() if pl.UInt64() not in (one, other) else pl.Int128()),
        (lambda kind: kind.is_numeric(), pl.Float64()),
        (lambda kind: isinstance(kind, pl.Datetime), TIME),
    ):
        if alike(one) and alike(other):
            return made
    return None


def _aligned(piece: Piece, stored: Kinds) -> pl.LazyFrame:
    return piece.frame.select(
        _made(piece, name, kind) if name in piece.stored else pl.lit(None, kind).alias(name)
        for name, kind in stored.items()
    )


def _made(piece: Piece, name: str, kind: pl.DataType) -> pl.Expr:
    own, value = piece.stored[name], pl.col(name)
    if own == kind:
        return value
    if isinstance(own, pl.Datetime) and kind == TIME:
        value = value.dt.convert_time_zone("UTC") if own.time_zone else value.dt.replace_time_zone("UTC")
    return value.cast(kind)

"""What a path of the user's means: one file, or the files of a folder or of a pattern, in the order of their names."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from glob import has_magic
from pathlib import Path, PurePath
from stat import S_ISREG
from urllib.parse import unquote

from recdistill.errors import UserError
from recdistill.storage.location import is_address

__all__ = ["DataFile", "Form", "data_files"]

Form = str  # parquet, csv, tsv, jsonl
FORMS = {".parquet": "parquet", ".pq": "parquet", ".csv": "csv", ".tsv": "tsv"} | dict.fromkeys(
    (".jsonl", ".ndjson", ".json"), "jsonl"
)
PACKED = (".gz", ".zst")  # unpacked as they are read
FOREIGN_PACKED = (".bz2", ".xz", ".lz4", ".zip", ".7z", ".br", ".sz", ".deflate")
OTHER_TABLES = {".hoodie": "Hudi"}
NULL = "__HIVE_DEFAULT_PARTITION__"
CHECK = "check data.path and --data"
STORE = "a log is read from a path of this machine; copy it from the object store, or mount the store as a folder"


@dataclass(frozen=True)
class DataFile:
    """A file of a log. partition: values that its folders give (`day=2024-01-01`), None for a missing one."""

    path: Path
    form: Form
    partition: dict[str, str | None]


def data_files(path: Path, as_text: bool = False, remedy: str = CHECK) -> list[DataFile]:
    """Return the files that `path` names: itself, those below a folder, or those that a pattern (`*`, `?`, `[]`)
    matches; of one form, in the order of their names, numbers in them by value. as_text: what has no name of a known
    form (train.txt, u.data) is text in columns.

    Left out are names that begin with `_` or `.` (`_SUCCESS`) and files without a byte. Raises UserError where there is
    no file, with `remedy`, or files of several forms, or one that is no file of a log.
    """
    base, found = _found(path, remedy)
    if [path] == found:
        form = _form(path, as_text)
        if not form and path.stat().st_size:
            raise UserError(
                f"{path}: no Parquet, and no text by its name; call text .csv, .tsv or .jsonl, or give its separator"
            )
        return [DataFile(path, form or "parquet", {})]
    found = [file for file in found if file.stat().st_size]
    if not found:
        raise UserError(f"{path}: holds no file with rows; {remedy}")
    files = [DataFile(file, _form(file, as_text), _partition(file.relative_to(base))) for file in found]
    first = files[0]
    for file in files:
        if not file.form:
            raise UserError(f"{path}: holds {file.path.name}, no Parquet, CSV or JSON lines; {_advice(path)}")
        if file.form != first.form:
            raise UserError(
                f"{path}: holds files of several kinds ({first.path.name}, {file.path.name}); {_advice(path)}"
            )
    return files


def _advice(path: Path) -> str:
    return (
        f"name the files of one kind by a pattern, as in data.path: {path.name if path.is_dir() else 'log'}/*.parquet"
    )


def _found(path: Path, remedy: str) -> tuple[Path, list[Path]]:
    """Return (the folder that names are taken from, the files in order)."""
    remedy = STORE if any(is_address(f"{part}/") for part in path.parts) else remedy
    if path.is_dir():
        _refuse_other_tables(path)
        return path, _walk(path)
    if path.exists():
        if not S_ISREG(path.stat().st_mode):
            raise UserError(f"{path}: not a file that can be read more than once; write the log to a file")
        return path.parent, [path]
    if not has_magic(str(path)):
        raise UserError(f"{path}: no such file; {remedy}")
    base = Path(*path.parts[: next(k for k, part in enumerate(path.parts) if has_magic(part))])
    matched = base.glob(str(path.relative_to(base)))
    found = {file for one in matched for file in (_walk(one) if one.is_dir() else [one]) if file.is_file()}
    if not found:
        raise UserError(f"{path}: no file matches the pattern; {remedy}")
    return base, sorted((file for file in found if _shown(file.relative_to(base))), key=lambda f: _order(f, base))


def _walk(folder: Path) -> list[Path]:
    files = [Path(where, name) for where, _, names in os.walk(folder) for name in names]
    shown = [file for file in files if _shown(file.relative_to(folder)) and file.is_file()]
    return sorted(shown, key=lambda file: _order(file, folder))


def _shown(path: PurePath) -> bool:
    """Return whether no name in the path says that it is none of the log's: `_SUCCESS`, `.part-0.parquet.crc`."""
    return not any(name.startswith(".") or (name.startswith("_") and "=" not in name) for name in path.parts)


def _order(file: Path, base: Path) -> list[list[tuple[int, str]]]:
    """Return what files are sorted by: name by name, digits by their value, so that part-10 follows part-9."""
    return [
        [(int(piece), "") if piece.isdigit() else (-1, piece) for piece in re.split(r"([0-9]+)", name) if piece]
        for name in file.relative_to(base).parts
    ]


def _form(path: Path, as_text: bool) -> Form:
    """Return the form by the name's end, else by the first bytes, else text where `as_text`; '' for none."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    last = suffixes[-1] if suffixes else ""
    if last in FOREIGN_PACKED:
        raise UserError(f"{path}: packed as {last}, which is not read; unpack it, or pack it as .gz or .zst")
    if last in PACKED:
        form = FORMS.get(suffixes[-2] if len(suffixes) > 1 else "", "csv" if as_text else "")
        if form in ("", "parquet"):
            raise UserError(f"{path}: only .csv, .tsv and .jsonl are read from {last}; unpack it, or name it so")
        return form
    if last in FORMS:
        return FORMS[last]
    with path.open("rb") as file:
        return "parquet" if file.read(4) == b"PAR1" else "csv" if as_text else ""


def _partition(path: PurePath) -> dict[str, str | None]:
    """Return what the folders of a file say: `country=DE/day=3/part-0.parquet` gives country and day."""
    named = [folder.partition("=") for folder in path.parts[:-1] if folder.find("=") > 0]
    return {unquote(name): None if value == NULL else unquote(value) for name, _, value in named}


def _refuse_other_tables(folder: Path) -> None:
    for pattern, kind in OTHER_TABLES.items():
        if any(folder.glob(pattern)):
            raise UserError(f"{folder}: a table of {kind}, whose files alone are not its rows; export it as Parquet")

"""A place that is a local path or one of an object store, and what is done in the same way in both."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from secrets import token_hex
from tempfile import TemporaryFile
from typing import BinaryIO
from uuid import uuid4

from recdistill.errors import UserError
from recdistill.storage.objects import ObjectPath

__all__ = [
    "Location",
    "create",
    "is_address",
    "local_path",
    "location",
    "names",
    "new_file",
    "of_this_machine",
    "remove",
    "write",
]

Location = Path | ObjectPath
SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]+:/")


def is_address(text: str) -> bool:
    """Return whether a text is meant as an address of an object store, and not as a path; also one with a slash less,
    of which a library would make an address of its own.
    """
    return SCHEME.match(text) is not None


def location(text: str) -> Location:
    """Return the place that a text names; UserError for an address that is none."""
    return ObjectPath.parse(text) if is_address(text) else Path(text)


def local_path(place: Location) -> Path:
    """Return a local place; UserError for one of an object store, where the verb does not work."""
    if isinstance(place, ObjectPath):
        raise UserError(f"{place}: this works on local folders only; copy the run to a folder first")
    return place


def of_this_machine(text: str | Path) -> Path:
    """Return the path that a text names; UserError for an address, of which a path would make a folder called `s3:`."""
    if is_address(str(text)):
        address = str(text).replace(":/", "://", 1).replace(":///", "://", 1)  # a path has one slash of the two
        raise UserError(
            f"{address}: this takes a path of this machine, not an address; copy what is there to a folder, or write "
            "to a folder and copy that (what object stores are for: how-to, On object stores)"
        )
    return Path(text)


def names(folder: Location) -> set[str]:
    """Return the names of what lies directly below; none where there is no folder."""
    if isinstance(folder, Path) and not folder.exists():
        return set()
    return {path.name for path in folder.iterdir()}


def write(path: Location, data: bytes) -> None:
    """Write a file or object: a reader sees the old content or the new one. The folder is made where it is missing."""
    if isinstance(path, ObjectPath):
        path.write_bytes(data)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    part = _written(path, data)
    part.replace(path)


def create(path: Location, data: bytes) -> bool:
    """Write a file or object where there is none; return False, and change nothing, where there is one."""
    if isinstance(path, ObjectPath):
        return path.create(data) is not None
    path.parent.mkdir(parents=True, exist_ok=True)
    part = _written(path, data)
    try:
        os.link(part, path)  # unlike a rename it does not replace
        return True
    except FileExistsError:
        return False
    finally:
        part.unlink()


def _written(path: Path, data: bytes) -> Path:
    """Return a new file next to `path` with these bytes on the disk."""
    part = path.with_name(f".{path.name}.{token_hex(4)}.part")
    try:
        with part.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except OSError:
        part.unlink(missing_ok=True)
        raise
    return part


@contextmanager
def new_file(path: Location) -> Iterator[BinaryIO]:
    """Give a file to write, which is there, and whole, once the block is left; nothing is where that fails."""
    if isinstance(path, ObjectPath):
        with TemporaryFile() as file:
            yield file
            path.upload(file)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f"{uuid4()}{path.suffix}")
    try:
        with aside.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


def remove(path: Location) -> None:
    """Delete a file or object, or a folder with all that is in it, where there is one."""
    if isinstance(path, ObjectPath):
        path.remove()
    elif path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)

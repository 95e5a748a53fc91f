"""Checkpoints in an object store: files first, the state last, which is what makes one visible; copies on this machine.

A copy is used where its checksum is that in the state, and is brought anew where it is not.
"""

from __future__ import annotations

import shutil
import zlib
from pathlib import Path

from recdistill.storage.objects import ObjectPath
from recdistill.storage.trees import fetch

__all__ = ["STATE", "brought", "checksum", "clear", "discard", "publish", "published"]

STATE = "state.json"
PIECE = 1 << 20  # bytes held while a checksum is taken


def checksum(path: Path) -> int:
    """Return the CRC-32 of a file, read piece by piece."""
    value = 0
    with path.open("rb") as file:
        while piece := file.read(PIECE):
            value = zlib.crc32(piece, value)
    return value


def published(folder: ObjectPath) -> list[int]:
    """Return the numbers of the blocks whose checkpoints are there, oldest first."""
    return sorted(int(path.name) for path in folder.iterdir() if path.name.isdigit() and (path / STATE).is_file())


def publish(part: Path, final: ObjectPath) -> None:
    """Put the files of a checkpoint, whose folder becomes the copy on this machine."""
    discard(final)
    for path in sorted(part.iterdir(), key=lambda path: (path.name == STATE, path.name)):
        with path.open("rb") as file:
            (final / path.name).upload(file)
    final.local.parent.mkdir(parents=True, exist_ok=True)
    part.rename(final.local)


def discard(final: ObjectPath) -> None:
    """Remove a checkpoint, its state first, and its copy."""
    (final / STATE).unlink(missing_ok=True)
    final.remove()
    shutil.rmtree(final.local, ignore_errors=True)


def clear(folder: ObjectPath) -> None:
    """Remove what a process that died left of checkpoints without a state."""
    whole = set(published(folder))
    for path in folder.iterdir():
        if path.name.isdigit() and int(path.name) not in whole:
            discard(path)


def brought(final: ObjectPath, name: str, value: int) -> Path:
    """Return the copy of a file whose checksum should be `value`; FileNotFoundError where there is no such file."""
    own = final.local / name
    if own.exists() and checksum(own) == value:
        return own
    fetch(final / name, own)
    return own

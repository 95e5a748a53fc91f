"""A folder of versions: which are in it, which one is served, and the way back."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from recdistill.errors import UserError
from recdistill.locks import locked
from recdistill.serve.artefact import Manifest, open_artefact
from recdistill.serve.pointer import POINTER, Pointer, read_pointer, write_pointer

__all__ = ["changing", "holds_versions", "numbers", "roll_back", "served", "versions"]


def changing(root: Path) -> AbstractContextManager[None]:
    """Keep other processes from changing what a folder serves; UserError where one is at it."""
    return locked(root / "lock", f"{root}: another process exports, promotes or rolls back there; try again")


def holds_versions(root: Path) -> bool:
    """Return whether a folder is one of versions, of which one is served."""
    return (root / POINTER).exists()


def numbers(root: Path) -> list[int]:
    """Return the versions that are there, in order."""
    return sorted(int(path.name) for path in root.iterdir() if path.name.isdecimal()) if root.is_dir() else []


def versions(root: Path) -> list[Manifest]:
    """Return what the versions are, in order; those whose manifest cannot be read are left out."""
    found = []
    for number in numbers(root):
        try:
            found.append(Manifest.read(root / str(number)))
        except UserError:
            continue
    return found


def served(root: Path) -> Manifest | None:
    """Return what is served, None where nothing ever was; UserError where that cannot be read."""
    pointer = read_pointer(root)
    return None if pointer is None else Manifest.read(root / str(pointer.version))


def roll_back(root: Path, may: Callable[[Manifest], bool] = lambda _: True) -> Manifest:
    """Serve again what was served before: the last one that is whole, and that `may` be served; return it. A canary
    ends.

    Raises UserError, and changes nothing, where there is none.
    """
    with changing(root):
        pointer = read_pointer(root)
        if pointer is None:
            raise UserError(f"{root}: nothing is served; promote or export a student first")
        for at in reversed(range(len(pointer.before))):
            found = _whole(root, pointer.before[at])
            if found is not None and may(found):
                ended = f"a rollback ended version {pointer.canary.version}, the canary" if pointer.canary else ""
                write_pointer(root, Pointer(pointer.before[at], pointer.before[:at], ended=ended))
                return found
        raise UserError(f"{root}: before version {pointer.version} none was served that could be served again")


def _whole(root: Path, version: int) -> Manifest | None:
    try:
        return open_artefact(root, version).manifest
    except UserError:
        return None

"""Folders of files that are memory-mapped, and so local: sent to an object store, and brought from there once."""

from __future__ import annotations

from pathlib import Path
from uuid import uuid4

from recdistill.storage.location import Location
from recdistill.storage.objects import ObjectPath

__all__ = ["brought", "fetch", "send"]


def send(folder: Path, to: ObjectPath) -> None:
    """Put every file of a folder below `to`; folders in it are passed over."""
    for path in sorted(folder.iterdir()):
        if path.is_file():
            with path.open("rb") as file:
                (to / path.name).upload(file)


def fetch(path: ObjectPath, own: Path) -> None:
    """Bring an object to a local file, which is there once it is whole; FileNotFoundError where there is no object."""
    own.parent.mkdir(parents=True, exist_ok=True)
    part = own.with_name(f"{own.name}.{uuid4()}.part")
    try:
        path.download(part)
        part.replace(own)
    finally:
        part.unlink(missing_ok=True)


def brought(folder: Location) -> Path:
    """Return a local folder with the files of `folder`: itself, or where they lie on this machine, brought there anew
    where a file is missing or has another size.
    """
    if isinstance(folder, Path):
        return folder
    here = folder.local
    for path in folder.iterdir():
        own = here / path.name
        if not own.exists() or own.stat().st_size != path.stat().st_size:
            fetch(path, own)
    return here

"""A folder of memory-mapped columns: each one `.npy` file, written once by position, read by any number of
processes.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.format import open_memmap

from recdistill.errors import RecdistillError
from recdistill.storage.location import Location, write
from recdistill.typing import Array

__all__ = ["create_column", "json_text", "open_column", "read_json", "sync", "writable_column", "write_json"]

EMPTY = 128  # bytes of a file without rows: its header, of which no map can be made


def create_column(folder: Path, name: str, shape: tuple[int, ...], dtype: str) -> Array:
    """Return a new writable memory map of `shape`, zero-filled; OSError when the disk has no room for it."""
    folder.mkdir(parents=True, exist_ok=True)
    if 0 in shape:
        np.save(folder / f"{name}.npy", np.zeros(shape, dtype))
        return np.zeros(shape, dtype)
    path = folder / f"{name}.npy"
    column = open_memmap(path, mode="w+", dtype=np.dtype(dtype), shape=shape)
    with path.open("r+b") as file:  # a map of a file with holes would end the process, not raise, once the disk is full
        os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    return column


def open_column(folder: Path, name: str) -> Array:
    """Return the read-only column `name`; RecdistillError when it is missing."""
    path = folder / f"{name}.npy"
    if not path.exists():
        raise RecdistillError(f"{path}: column missing from the store; delete the folder and run again")
    column: Array = np.load(path, allow_pickle=False, mmap_mode=None if path.stat().st_size < 4096 else "r")
    return column


def writable_column(folder: Path, name: str) -> Array:
    """Return the column `name` to be written by position, as any number of processes may at once, each its own rows."""
    path = folder / f"{name}.npy"
    column: Array = np.load(path, allow_pickle=False, mmap_mode="r+" if path.stat().st_size > EMPTY else None)
    return column


def json_text(value: object) -> str:
    """Return a value as `write_json` writes it."""
    return json.dumps(value, indent=1, sort_keys=True)


def write_json(path: Location, value: object) -> None:
    """Write JSON atomically: a reader sees the old file or the new one."""
    if not isinstance(path, Path):
        write(path, json_text(value).encode())
        return
    part = path.with_name(path.name + ".part")
    with part.open("w", encoding="utf-8") as file:
        file.write(json_text(value))
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)


def read_json(path: Location) -> Any:
    """Return the parsed JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))


def sync(path: Path) -> None:
    """Let a file or folder reach the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

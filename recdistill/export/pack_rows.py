"""The files of a table's rows, written smaller: which rows stay, and how a number of them is written."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from recdistill.data.store.memmap import create_column, open_column
from recdistill.defaults import RowKind
from recdistill.errors import UserError
from recdistill.serve.rows import coded, kept_bits
from recdistill.typing import Array

__all__ = ["lengths", "pack", "rows_kept"]

NARROW = 3  # numbers of a row: with its minimum and step it would hardly be shorter than before
CHUNK = 65_536  # rows of a table held at a time
LARGEST = float(np.finfo(np.float16).max)


def lengths(folder: Path, name: str) -> Array:
    """Return float32 [rows], the length (L2) of each of the rows of a file."""
    rows = open_column(folder, name)
    found = np.zeros(len(rows), np.float32)
    for at in range(0, len(rows), CHUNK):
        found[at : at + CHUNK] = np.linalg.norm(rows[at : at + CHUNK].astype(np.float64), axis=1)
    return found


def rows_kept(length: Sequence[Array], seen: Sequence[Array], drop: float, min_seen: int) -> list[Array]:
    """Return, for each table, bool [rows], which rows stay: not those that fewer than `min_seen` steps learned from,
    nor the share `drop` of all tables' rows together whose length is smallest; of equal ones the first go. Ids that
    have no row of their own, -1 in `seen`, have none left and count as none; nor does the padding, row 0, which stays.
    """
    there = np.flatnonzero(np.concatenate([(one >= 0) & (np.arange(len(one)) > 0) for one in seen]))
    shortest = there[np.argsort(np.concatenate(length)[there], kind="stable")]
    keep = np.concatenate(seen) >= min_seen
    keep[shortest[: int(drop * len(there))]] = False
    found = np.split(keep, np.cumsum([len(one) for one in seen])[:-1])
    for table in found:
        table[0] = True
    return found


def pack(folder: Path, name: str, keep: Array, kind: RowKind) -> None:
    """Write a file's float32 rows again, of those that `keep`, bool [rows], alone, each number as `kind`; narrow ones
    stay float32 where the kind is of codes. UserError for a number that float16 does not hold.
    """
    floats = open_column(folder, name)
    rows, width = np.flatnonzero(keep), floats.shape[1]
    bits = {"int8": 8, "int4": 4}.get(kind, 0) if width >= NARROW else 0
    if bits:
        into = create_column(folder, "packed", (len(rows), -(-width * bits // 8)), "uint8")
        ranges = create_column(folder, f"{name}.range", (len(rows), 2), "float32" if bits == 8 else "float16")
    else:
        into = create_column(folder, "packed", (len(rows), width), "float16" if kind == "float16" else "float32")
    for at in range(0, len(rows), CHUNK):
        part = floats[rows[at : at + CHUNK]]
        if (kind == "float16" or bits == 4) and np.abs(part).max(initial=0.0) > LARGEST:
            raise UserError(f"rows as {kind}: a row holds a number beyond {LARGEST:,.0f}; write them as int8")
        if bits:
            into[at : at + CHUNK], ranges[at : at + CHUNK] = coded(part, bits)
        else:
            into[at : at + CHUNK] = part
    if not keep.all():
        np.save(folder / f"{name}.kept.npy", kept_bits(keep))
    (folder / "packed.npy").replace(folder / f"{name}.npy")

"""A table's rows, memory-mapped: float32 as they are, or smaller, and read as the float32 that they stand for.

table_N.npy          float32 or float16 [rows, width]; or codes, uint8 [rows, width] of 8 bits, two of 4 bits in a byte
table_N.range.npy    of codes, [rows, 2], float32 for 8 bits and float16 for 4: a row is minimum + step * code
table_N.kept.npy     where some ids have no row: uint64, bit by bit from the lowest, whether an id's index has one; the
                     rows of those that have stand in their order, and the others read row 0, the padding
table_N.shared.npy   where ids share rows: int64 [1], how many there are, M, but for the padding; the id of index i
                     reads row 1 + (i - 1) mod M; int64 [2] where there are Q quotients too: that row is multiplied,
                     number by number, by row 1 + floor((i - 1) / M) mod Q of
table_N.quotient.npy the rows of quotients, with a range and a map of their own, table_N.quotient.range.npy, ...
table_N.narrow.npy   where widths are mixed: int64 [1], how many numbers of a row every id has, in table_N.npy
table_N.rest.npy     the others, [rows, width - narrow], with a range and a map of their own: of most ids they are zeros
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from recdistill.data.store.memmap import open_column
from recdistill.defaults import RowKind
from recdistill.errors import RecdistillError, UserError
from recdistill.typing import Array

__all__ = ["CodedRows", "HalfRows", "KeptRows", "MixedRows", "SharedRows", "SmallerRows", "TableRows"]
__all__ += ["AS_THEY_ARE", "coded", "kept_bits", "open_rows", "table_file", "table_number"]

RANGES: dict[int, np.dtype[Any]] = {
    8: np.dtype(np.float32),
    4: np.dtype(np.float16),
}  # of minimum and step, by bits of a code
WORD = 64  # bits


@dataclass(frozen=True)
class SmallerRows:
    """How an artefact's rows are made smaller. kind: how a number is written; drop: the share of all rows, those of the
    smallest length, that are left out; min_seen: rows that fewer steps learned from are left out; max_loss: the most
    that NE may rise by on the scored window. Ids whose row is left out read the padding, as ids never seen do.
    """

    kind: RowKind = "float32"
    drop: float = 0.0
    min_seen: int = 0
    max_loss: float = 0.001

    def __post_init__(self) -> None:
        if not 0 <= self.drop < 1:
            raise UserError(f"drop rows: a share from 0 to below 1 was expected; got {self.drop:g}")
        if self.min_seen < 0 or not self.max_loss >= 0:
            raise UserError("min seen and max loss: numbers from 0 were expected")

    @property
    def prunes(self) -> bool:
        """Return whether rows are left out."""
        return self.drop > 0 or self.min_seen > 0

    @property
    def changes(self) -> bool:
        """Return whether anything is other than in a plain export."""
        return self.prunes or self.kind != "float32"


AS_THEY_ARE = SmallerRows()


class HalfRows:
    """Rows of float16 that are read as float32 [rows, width]."""

    dtype, ndim = np.dtype(np.float32), 2

    def __init__(self, stored: Array) -> None:
        if stored.ndim != 2:
            raise RecdistillError("rows [n, width] were expected")
        self.stored, self.shape = np.asarray(stored), stored.shape  # no memmap: slower

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.stored)

    def __getitem__(self, rows: Array | slice) -> Array:
        """Return float32 [n, width] of `rows`."""
        return np.asarray(self.stored[rows], np.float32)


class CodedRows:
    """Rows of codes that are read as the float32 [rows, width] that they stand for."""

    dtype, ndim = np.dtype(np.float32), 2

    def __init__(self, codes: Array, ranges: Array, width: int) -> None:
        self.bits = next((bits for bits, kind in RANGES.items() if ranges.dtype == kind), 0)
        if not self.bits or ranges.shape != (len(codes), 2) or codes.shape != (len(codes), -(-width * self.bits // 8)):
            raise RecdistillError(f"rows of {width} codes, with a minimum and a step for each, were expected")
        self.codes, self.ranges, self.shape = np.asarray(codes), np.asarray(ranges), (len(codes), width)

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.codes)

    def __getitem__(self, rows: Array | slice) -> Array:
        """Return float32 [n, width] of `rows`."""
        codes = self.codes[rows]
        if self.bits == 4:
            codes = np.stack((codes & 15, codes >> 4), -1).reshape(len(codes), -1)[:, : self.shape[1]]
        low, step = (self.ranges[rows, at, None].astype(np.float64) for at in (0, 1))  # float32's range may not hold
        return np.asarray(low + step * codes, np.float32)


class KeptRows:
    """Rows of some ids alone, read by the index of any: float32 [indices, width], row 0 for those without one."""

    dtype, ndim = np.dtype(np.float32), 2

    def __init__(self, rows: Array | HalfRows | CodedRows, kept: Array) -> None:
        counts = np.bitwise_count(kept) if kept.dtype == np.uint64 and kept.ndim == 1 else np.zeros(0, np.int64)
        if not len(counts) or not kept[0] & np.uint64(1) or int(counts.sum()) != len(rows):
            raise RecdistillError("a row for each index that has one, the padding's among them, was expected")
        self.rows = np.asarray(rows) if isinstance(rows, np.ndarray) else rows
        self.kept, self.shape = np.asarray(kept), (WORD * len(kept), rows.shape[1])
        self._before = np.cumsum(counts, dtype=np.int64) - counts

    def __len__(self) -> int:
        """Return the number of indices."""
        return self.shape[0]

    def __getitem__(self, rows: Array) -> Array:
        """Return float32 [n, width] of `rows`, indices."""
        at = np.asarray(rows, np.int64)
        word, bit = self.kept[at // WORD], np.uint64(1) << (at % WORD).astype(np.uint64)
        place = self._before[at // WORD] + np.bitwise_count(word & (bit - np.uint64(1)))
        return np.asarray(self.rows[np.where(word & bit, place, 0)])


class SharedRows:
    """Rows that ids share, read by the index of any: float32 [indices, width]; times: those of quotients."""

    dtype, ndim = np.dtype(np.float32), 2

    def __init__(self, rows: OwnRows, shared: Array, times: OwnRows | None = None) -> None:
        counts: list[int] = shared.tolist() if shared.dtype == np.int64 and shared.ndim == 1 else []
        parts = [rows] if times is None else [rows, times]
        if len(counts) != len(parts) or any(not 1 <= n < len(part) for n, part in zip(counts, parts, strict=True)):
            raise RecdistillError("how many rows ids share, of those that there are, was expected")
        self.rows, *self.times = (np.asarray(part) if isinstance(part, np.ndarray) else part for part in parts)
        self.most, *self.quotients = counts
        self.shape = (np.iinfo(np.int64).max, rows.shape[1])

    def __len__(self) -> int:
        """Return the number of indices: there is no end to them."""
        return self.shape[0]

    def __getitem__(self, rows: Array) -> Array:
        """Return float32 [n, width] of `rows`, indices."""
        at = np.asarray(rows, np.int64)
        found = self.rows[np.where(at == 0, 0, (at - 1) % self.most + 1)]
        for times, count in zip(self.times, self.quotients, strict=True):
            found = found * times[np.where(at == 0, 0, (at - 1) // self.most % count + 1)]
        return np.asarray(found)


class MixedRows:
    """Rows of which every id has the first numbers and some the rest: float32 [indices, width]."""

    dtype, ndim = np.dtype(np.float32), 2

    def __init__(self, rows: OwnRows, rest: OwnRows) -> None:
        self.parts = [np.asarray(part) if isinstance(part, np.ndarray) else part for part in (rows, rest)]
        self.shape = (min(len(rows), len(rest)), rows.shape[1] + rest.shape[1])

    def __len__(self) -> int:
        """Return the number of indices."""
        return self.shape[0]

    def __getitem__(self, rows: Array) -> Array:
        """Return float32 [n, width] of `rows`, indices."""
        return np.concatenate([part[np.asarray(rows, np.int64)] for part in self.parts], 1)


OwnRows = Array | HalfRows | CodedRows | KeptRows
TableRows = OwnRows | SharedRows | MixedRows


def coded(rows: Array, bits: int) -> tuple[Array, Array]:
    """Return (codes uint8 [n, bytes], ranges [n, 2]) of float32 [n, width], each value within half a step of its own
    but for the rounding of the minimum; a padding of zeros comes back as it is. The ranges of 4 bits hold values up to
    65,504.
    """
    kind, levels = RANGES[bits], (1 << bits) - 1
    wide = rows.astype(np.float64)
    low, high = wide.min(1, initial=np.inf).astype(kind), wide.max(1, initial=-np.inf)
    exact = np.where(high > low, (high - low) / levels, 0.0)
    step = exact.astype(kind)
    step = np.where(step > exact, np.nextafter(step, kind.type(0)), step)  # rounded up, the largest would be infinite
    divisor = np.where(step > 0, step, kind.type(1)).astype(np.float64)
    codes = np.clip(np.rint((wide - low.astype(np.float64)[:, None]) / divisor[:, None]), 0, levels).astype(np.uint8)
    return _nibbles(codes) if bits == 4 else codes, np.stack((low, step), 1)


def _nibbles(codes: Array) -> Array:
    """Return uint8 [n, (width + 1) // 2] of codes of 4 bits, two in a byte, the first one the lower."""
    even = np.pad(codes, ((0, 0), (0, codes.shape[1] % 2)))
    return np.asarray(even[:, ::2] | even[:, 1::2] << 4)


def kept_bits(keep: Array) -> Array:
    """Return uint64 [words], see `KeptRows`, of bool [indices]."""
    padded = np.pad(keep, (0, -len(keep) % WORD))
    return np.packbits(padded, bitorder="little").view("<u8").astype(np.uint64)


def table_file(number: int, part: str = "") -> str:
    """Return the name, without its ending, of the file of a table's rows, or of a part of them."""
    return f"table_{number}.{part}" if part else f"table_{number}"


def table_number(name: str) -> int:
    """Return whose rows a `table_file` has."""
    return int(name.removeprefix("table_").partition(".")[0])


def open_rows(folder: Path, number: int, width: int) -> TableRows:
    """Return the rows of a table of this width, by their ids' indices. RecdistillError for what is none."""
    rows, shared, times, narrow = (table_file(number, part) for part in ("", "shared", "quotient", "narrow"))
    if (folder / f"{narrow}.npy").exists():
        return _mixed_rows(folder, number, width, open_column(folder, narrow))
    own = _own_rows(folder, rows, width)
    if not (folder / f"{shared}.npy").exists():
        return own
    quotients = _own_rows(folder, times, width) if (folder / f"{times}.npy").exists() else None
    return SharedRows(own, open_column(folder, shared), quotients)


def _mixed_rows(folder: Path, number: int, width: int, narrow: Array) -> MixedRows:
    if narrow.dtype != np.int64 or narrow.shape != (1,) or not 0 < int(narrow[0]) < width:
        raise RecdistillError(f"how many of {width} numbers of a row every id has was expected")
    widths = {"": int(narrow[0]), "rest": width - int(narrow[0])}
    return MixedRows(*(_own_rows(folder, table_file(number, part), of) for part, of in widths.items()))


def _own_rows(folder: Path, name: str, width: int) -> OwnRows:
    found = open_column(folder, name)
    rows: Array | HalfRows | CodedRows = found
    if found.dtype == np.float16:
        rows = HalfRows(found)
    elif found.dtype == np.uint8:
        rows = CodedRows(found, open_column(folder, f"{name}.range"), width)
    kept = f"{name}.kept"
    return KeptRows(rows, open_column(folder, kept)) if (folder / f"{kept}.npy").exists() else rows

"""Rows that memory does not hold, sorted and joined: they are divided on disk until every part fits.

    in_order    by ranges of a key, so that one part follows the other
    joined      by a hash of the key, so that a key's rows lie in one part of either side

A part that is still too large is divided again. Nothing is written where the rows fit at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import polars as pl
import pyarrow as pa

from recdistill.errors import RecdistillError
from recdistill.typing import Array

__all__ = ["LIMIT", "KeyRepeatsError", "in_order", "joined"]

LIMIT = 1 << 20  # rows of a part
WAYS = 64  # parts of a pile
DIVISIONS = 8  # by other hashes, after which 64^8 keys lie apart
Frames = Iterable[pl.DataFrame]
Numbers = Callable[[pl.DataFrame], Array]


class KeyRepeatsError(RecdistillError):
    """A key of a join has more rows than memory holds, however the rows are divided."""


class _Pile:
    """Frames of one schema in a file, in the order in which they were added."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self.path, self.rows = path, 0
        self._writer = pa.ipc.new_stream(str(path), schema)

    def add(self, table: pa.Table) -> None:
        self._writer.write_table(table)
        self.rows += len(table)

    def close(self) -> None:
        self._writer.close()

    def frames(self) -> Iterator[pl.DataFrame]:
        """Yield the frames again."""
        with pa.OSFile(str(self.path)) as file, pa.ipc.open_stream(file) as stream:
            yield from map(pl.DataFrame, stream)

    def taken(self) -> Iterator[pl.DataFrame]:
        """Yield the frames again; the file goes with the last one."""
        yield from self.frames()
        self.path.unlink()


def _divided(frames: Frames, number: Numbers, folder: Path) -> dict[int, _Pile]:
    """Return piles in `folder`, by the number from 0 to WAYS - 1 that `number` gives each row, those with rows."""
    folder.mkdir(parents=True)
    piles: dict[int, _Pile] = {}
    try:
        for frame in frames:
            of_row = number(frame)
            order = np.argsort(of_row, kind="stable")
            rows = frame[order].to_arrow(compat_level=pl.CompatLevel.oldest())
            found, first = np.unique(of_row[order], return_index=True)
            for one, low, high in zip(found.tolist(), first, [*first[1:], len(order)], strict=True):
                if one not in piles:
                    piles[one] = _Pile(folder / f"{one}.arrow", rows.schema)
                piles[one].add(rows.slice(low, high - low))
    finally:
        for pile in piles.values():
            pile.close()
    return piles


def _held(frames: Frames, limit: int) -> tuple[list[pl.DataFrame], Frames]:
    """Return (all frames, none), or where they have more than `limit` rows (none, all of them)."""
    held, rows, rest = [], 0, iter(frames)
    for frame in rest:
        held.append(frame)
        rows += len(frame)
        if rows > limit:
            return [], chain(held, rest)
    return held, ()


def in_order(frames: Frames, keys: Sequence[str], folder: Path, limit: int = LIMIT) -> Iterator[pl.DataFrame]:
    """Yield the rows in order of `keys`, columns of int64, and rows that are equal in all of them as they came.

    At most `limit` rows are in memory, unless that many are equal in all keys; the rest lies in `folder` meanwhile.
    """
    held, rest = _held(frames, limit)
    if held:
        yield pl.concat(held).sort(keys, maintain_order=True)
        return
    with TemporaryDirectory(dir=folder) as place:
        everything = _divided(rest, lambda frame: np.zeros(len(frame), np.int64), Path(place) / "all")
        for pile in everything.values():
            yield from _sorted(pile, keys, Path(place) / "parts", limit)


def _sorted(pile: _Pile, keys: Sequence[str], folder: Path, limit: int) -> Iterator[pl.DataFrame]:
    if pile.rows <= limit or not keys:
        whole = pl.concat(pile.taken())
        yield whole.sort(keys, maintain_order=True) if keys else whole
        return
    ranges = pl.concat(frame.select(low=pl.col(keys[0]).min(), high=pl.col(keys[0]).max()) for frame in pile.frames())
    low, high = int(ranges["low"].min()), int(ranges["high"].max())  # type: ignore[arg-type]
    if low == high:
        yield from _sorted(pile, keys[1:], folder, limit)
        return
    width = (high - low) // WAYS + 1

    def number(frame: pl.DataFrame) -> Array:
        above = frame[keys[0]].to_numpy().view(np.uint64) - np.array(low).view(np.uint64)  # a range may pass 2^63
        return np.asarray((above // np.uint64(width)).astype(np.int64))

    for one, part in sorted(_divided(pile.taken(), number, folder).items()):
        yield from _sorted(part, keys, folder / f"{one}", limit)


def joined(
    left: Frames, right: Frames, key: str, folder: Path, limit: int = LIMIT
) -> Iterator[tuple[pl.DataFrame, pl.DataFrame]]:
    """Yield the rows of `left` and `right` that have the same `key`, those of some keys at a time, neither side of more
    than `limit` rows; what has no like on the other side may be left out.

    The rest lies in `folder` meanwhile. Raises KeyRepeatsError where more than `limit` rows of a side have one key.
    """
    sides = [_held(frames, limit) for frames in (left, right)]
    if all(held for held, _ in sides):
        yield pl.concat(sides[0][0]), pl.concat(sides[1][0])
        return
    with TemporaryDirectory(dir=folder) as place:
        yield from _matched([chain(held, rest) for held, rest in sides], key, Path(place), limit, 0)


def _matched(
    sides: Sequence[Frames], key: str, folder: Path, limit: int, division: int
) -> Iterator[tuple[pl.DataFrame, pl.DataFrame]]:
    if division == DIVISIONS:
        raise KeyRepeatsError(f"more than {limit:,} rows have one {key}: memory does not hold their join")

    def number(frame: pl.DataFrame) -> Array:
        return np.asarray((frame[key].hash(seed=division) % WAYS).to_numpy().astype(np.int64))

    left, right = (_divided(side, number, folder / name) for side, name in zip(sides, ("left", "right"), strict=True))
    for one in sorted(left.keys() & right.keys()):
        parts = left[one], right[one]
        if max(part.rows for part in parts) <= limit:
            yield pl.concat(parts[0].taken()), pl.concat(parts[1].taken())
        else:
            yield from _matched([part.taken() for part in parts], key, folder / f"{one}", limit, division + 1)

"""All that a model recorded, each row at its sample's place in the store: a join by sample id, of any size.

    plan      the table's files of the model, small neighbours together
    part      the rows of some files, looked up in the store's index, which is on disk
    across    the caller's: it writes each part's values into a column, in the order of the commits

Memory is that of a part per worker, a file of at most 128 MiB, whatever the sizes of the two sides; the column is the
same to the bit however many work.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import polars as pl

from recdistill.data.store.sample_store import SampleStore
from recdistill.storage.location import Location
from recdistill.tables.delta.files import Part
from recdistill.tables.delta.fixed_bytes import from_bytes
from recdistill.tables.predictions import PredictionLog
from recdistill.typing import Array
from recdistill.workers.parts import ALONE, Workers, in_parts

__all__ = ["in_places"]

PART_BYTES = 32 << 20  # of small files that make a part
WORTH_BYTES = 256 << 20  # of some 60 million rows: below, workers take longer to start than one process to read
Placed = tuple[Array, Array]


@dataclass(frozen=True)
class _Record:
    """What every worker knows; see `in_places`."""

    store: Path
    predictions: Location
    columns: tuple[str, ...]
    width: int

    def placed(self, store: SampleStore, rows: pl.DataFrame) -> Placed:
        """Return what `in_places` yields, of some rows."""
        at = store.positions(rows["sample_id"].to_numpy())
        if not self.width:
            return at, rows.select(self.columns).to_numpy()
        has, held = from_bytes(rows[self.columns[0]], self.width)
        return at[has], held


@dataclass(frozen=True)
class _Files:
    """Some files of the table, neighbours."""

    files: tuple[Part, ...]

    def __str__(self) -> str:
        """Return its name in messages."""
        return f"{self.files[0].path} and {len(self.files) - 1} more"


def _together(files: Sequence[Part]) -> Iterator[_Files]:
    held: list[Part] = []
    for file in files:
        if held and sum(one.size for one in held) + file.size > PART_BYTES:
            yield _Files(tuple(held))
            held = []
        held.append(file)
    if held:
        yield _Files(tuple(held))


def _read(record: _Record, part: _Files) -> list[Placed]:
    """Return the rows of some files, in their order."""
    log, store = PredictionLog.open(record.predictions), SampleStore(record.store)
    return [record.placed(store, rows) for rows in log.of_files(part.files, ["sample_id", *record.columns])]


def in_places(
    store: SampleStore,
    predictions: PredictionLog,
    model: str,
    columns: tuple[str, ...],
    width: int = 0,
    workers: Workers = ALONE,
) -> Iterator[Placed]:
    """Yield what the model recorded, in the order of the commits: (int64 [n] places in the store, -1 for no sample of
    it; their values, float32 [n, tasks], or of a channel uint8 [n, width], where they have one).

    columns: the logits of the tasks, or a channel alone; width: that channel's bytes, 0 for logits.
    """
    files, record = predictions.files_of(model), _Record(store.folder, predictions.path, columns, width)
    if workers.count == 1 or sum(file.size for file in files) < WORTH_BYTES:
        for rows in predictions.of_files(files, ["sample_id", *columns]):
            yield record.placed(store, rows)
        return
    for found in in_parts(partial(_read, record), list(_together(files)), workers):
        yield from found

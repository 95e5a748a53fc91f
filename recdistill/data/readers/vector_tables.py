"""Tables of pre-trained vectors, one of each item or user: checked, and read a chunk at a time.

All vectors of a table have one length and finite numbers; an id has one. They are frozen, and scaled: by one number, so
that the entries of the table's first vectors have a mean square of 1 whatever model made them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import polars as pl

from recdistill.config.data import DataConfig, VectorConfig
from recdistill.data.readers.base import Log
from recdistill.data.readers.columns import Kinds, convert
from recdistill.data.readers.files import RawTable, reading
from recdistill.data.readers.ids import id_column
from recdistill.data.readers.mapping import check_ids, need
from recdistill.data.readers.rows import kinds_in
from recdistill.data.readers.scan import scan_file
from recdistill.errors import UserError, did_you_mean
from recdistill.tables.schema import EventSchema
from recdistill.tables.validation import Origin
from recdistill.typing import Array

__all__ = ["VectorTable", "entries_of", "with_vectors"]

FIRST = 1000  # vectors that show the length and the scale


def with_vectors(log: Log, config: DataConfig, folder: Path) -> Log:
    """Return the log with its tables of vectors, in the schema by name: (item or user, entries of a vector).

    Paths are relative to `folder`. UserError for a table that cannot be read as one of vectors.
    """
    tables = [
        VectorTable(name, one, scan_file(folder / one.path, one), log.schema)
        for name, one in sorted(config.vectors.items())  # a schema keeps them so
    ]
    if not tables:
        return log
    for table in tables:
        if table.config.of == "user" and not log.schema.has_user:
            raise UserError(f"data.vectors.{table.name}: the log has no users (data.columns: user: null)")
    found: dict[str, tuple[str, int]] = {table.name: (table.config.of, table.width) for table in tables}
    return replace(
        log,
        schema=replace(log.schema, vectors=found),
        vectors=tuple(tables),
        sources=(*log.sources, *(table.source.source for table in tables)),
    )


@dataclass(frozen=True)
class VectorTable:
    """A table of vectors; schema: of the log, for its ids."""

    name: str
    config: VectorConfig
    source: RawTable
    schema: EventSchema

    @cached_property
    def _kinds(self) -> Kinds:
        config, path = self.config, self.source.path
        kinds = kinds_in(self.source, [config.key])
        need(kinds, {"key": config.key}, f"vectors.{self.name}", path)
        if config.column not in kinds:
            where = f"(data.vectors.{self.name}.column)"
            raise UserError(f"{path}: no column '{config.column}' {where}{did_you_mean(config.column, kinds)}")
        return kinds

    @cached_property
    def _first(self) -> Array:
        """The table's first vectors, float64 [n, width]; UserError for a column that holds none."""
        name, kind = self.config.column, self._kinds[self.config.column].stored
        where = f"{self.source.path}: column '{name}' (data.vectors.{self.name}.column)"
        inner = getattr(kind, "inner", None)
        if inner is None or not inner.is_numeric():
            raise UserError(f"{where} holds {kind}, not lists of numbers")
        with reading(self.source.path):
            found = self.source.frame.select(name).drop_nulls().head(FIRST).collect().to_series()
        if not len(found) or not len(found[0]):
            raise UserError(f"{where} holds no vector")
        width = len(found[0])
        alike = found.filter(as_lists(found).list.len() == width)  # others are refused with their rows, later
        return np.array(as_lists(alike).explode().cast(pl.Float64).to_numpy()).reshape(-1, width)

    @property
    def width(self) -> int:
        """Return how many entries a vector has."""
        return int(self._first.shape[1])

    @cached_property
    def scale(self) -> float:
        """What every entry is multiplied by."""
        finite = self._first[np.isfinite(self._first)]
        mean = float(np.mean(np.square(finite))) if len(finite) else 0.0
        return float(mean**-0.5) if mean > 0 else 1.0

    @cached_property
    def ids(self) -> pl.Series:
        """The ids that have a vector, in the order of the table; UserError for an empty one, and one that stands
        twice.
        """
        parts, numbers = [], []
        with self.source.naming_files():
            for ids, origin, _ in self._chunks():
                parts.append(ids)
                numbers.append(origin.numbers)
            ids = pl.concat(parts)
            check_ids(ids.to_frame("id"), replace(origin, numbers=pl.concat(numbers)))
        return ids

    def chunks(self) -> Iterator[tuple[pl.Series, Array]]:
        """Yield (ids [n], float32 [n, width]) in the order of the table; UserError at the first vector of another
        length, or with an entry that is missing or not finite, with its row.
        """
        with self.source.naming_files():
            for ids, origin, rows in self._chunks():
                yield ids, entries_of(rows, self.width, self.scale, origin, self.config.column)

    def _chunks(self) -> Iterator[tuple[pl.Series, Origin, pl.Series]]:
        """Yield (ids, origin, vectors as they are) of the rows that have a vector."""
        id_type = self.schema.item_id if self.config.of == "item" else self.schema.user_id
        made = {"id": id_column(self.config.key, self._kinds[self.config.key], id_type, self.config.of)}
        for chunk in self.source.chunks([self.config.key, self.config.column], rows=self._rows):
            given = chunk.filter(pl.col(self.config.column).is_not_null())
            ids, origin = convert(given, made, self.source.path)
            yield ids["id"], origin, given[self.config.column]

    @property
    def _rows(self) -> int:
        """Return how many vectors are read at a time: some 16 MiB of them."""
        return max(1024, (1 << 22) // self.width)


def as_lists(vectors: pl.Series) -> pl.Series:
    """Return lists, of arrays too."""
    return vectors.arr.to_list() if isinstance(vectors.dtype, pl.Array) else vectors


def entries_of(vectors: pl.Series, width: int, scale: float, origin: Origin, column: str) -> Array:
    """Return float32 [n, width] of vectors without nulls, scaled; UserError for one that is not of `width` finite
    numbers.
    """
    lists = as_lists(vectors)
    odd = (lists.list.len() != width).arg_true()
    if len(odd):
        found = len(lists[odd[0]])
        raise origin.refuse(int(odd[0]), column, f"a vector of {found} entries, where the others have {width}")
    entries = lists.explode().cast(pl.Float64).fill_null(float("nan")).to_numpy() if len(lists) else np.zeros(0)
    made = np.array(entries * scale, np.float32).reshape(-1, width)
    wrong = np.flatnonzero(~np.isfinite(made).all(1))
    if len(wrong):
        raise origin.refuse(int(wrong[0]), column, "a vector with an entry that is missing, NaN or infinite")
    return made

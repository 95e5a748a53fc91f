"""Tables of pre-trained vectors, one of each item or user: checked, and read a chunk at a time.

All vectors of a table have one length and finite numbers; an id has one. They are frozen, and scaled: by one number, so
that the entries of the table's first vectors have a mean square of 1 whatever model made them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import polars as pl

from recdistill.config.data import DataConfig, VectorConfig
from recdistill.data.readers.base import Log
from recdistill.data.readers.columns import Kinds, convert
from recdistill.data.readers.files import RawTable
from recdistill.data.readers.ids import id_column
from recdistill.data.readers.mapping import check_ids, need
from recdistill.data.readers.rows import kinds_in
from recdistill.data.readers.scan import scan_file
from recdistill.data.readers.vector_values import entries_of, first_vectors, scale_of
from recdistill.errors import UserError
from recdistill.tables.schema import EventSchema
from recdistill.tables.validation import Origin
from recdistill.typing import Array

__all__ = ["VectorTable", "with_vectors"]


def with_vectors(log: Log, config: DataConfig, folder: Path) -> Log:
    """Return the log with its tables of vectors, in the schema by name: (item or user, entries of a vector).

    Paths are relative to `folder`. UserError for a table that cannot be read as one of vectors.
    """
    tables = [
        VectorTable(name, one, scan_file(folder / one.path, one), log.schema)
        for name, one in sorted(config.vectors.items())  # a schema keeps them so
        if one.path is not None
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
        path = self.source.path
        kinds = kinds_in(self.source, [self._key])
        need(kinds, {"key": self._key}, f"vectors.{self.name}", path)
        return kinds

    @property
    def _key(self) -> str:
        return str(self.config.key)

    @cached_property
    def _first(self) -> Array:
        """The table's first vectors; see `first_vectors`."""
        return first_vectors(self.source, self._kinds, self.config.column, f"data.vectors.{self.name}.column")

    @property
    def width(self) -> int:
        """Return how many entries a vector has."""
        return int(self._first.shape[1])

    @cached_property
    def scale(self) -> float:
        """What every entry is multiplied by."""
        return scale_of(self._first)

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
        made = {"id": id_column(self._key, self._kinds[self._key], id_type, self.config.of)}
        for chunk in self.source.chunks([self._key, self.config.column], rows=self._rows):
            given = chunk.filter(pl.col(self.config.column).is_not_null())
            ids, origin = convert(given, made, self.source.path)
            yield ids["id"], origin, given[self.config.column]

    @property
    def _rows(self) -> int:
        """Return how many vectors are read at a time: some 16 MiB of them."""
        return max(1024, (1 << 22) // self.width)

"""Side tables: what is known of items or of users, joined to every row of a log by id, as of the row's time.

    no valid_from    an id has one row; its values count as known always, and a line says so
    valid_from       the newest row of the id whose valid_from is not after the row's time; a date alone counts when
                     it is over

A table is held in memory; where it has nothing for an id by then, its features are missing there, and counted.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Literal

import polars as pl

from recdistill.config.data import DataConfig, SideConfig
from recdistill.data.readers.base import Log
from recdistill.data.readers.columns import Column, Counts, Kinds, convert, names_of
from recdistill.data.readers.files import RawTable
from recdistill.data.readers.ids import id_column
from recdistill.data.readers.mapping import (
    check_features,
    check_ids,
    feature_columns,
    feature_types,
    named_features,
    need,
)
from recdistill.data.readers.rows import kinds_in, notes_of
from recdistill.data.readers.scan import scan_file
from recdistill.data.readers.times import check_unit, known_time_column
from recdistill.errors import UserError
from recdistill.tables.schema import POLARS_TYPES, EventSchema, feature_column
from recdistill.tables.validation import Origin

__all__ = ["SideTable", "own_features", "side_tables", "with_side_tables"]

Side = Literal["items", "users"]
IDS: dict[Side, str] = {"items": "item_id", "users": "user_id"}
FROM = "valid_from"


def with_side_tables(log: Log, config: DataConfig, folder: Path) -> Log:
    """Return the log with the features of its side tables; paths are relative to `folder`.

    Raises UserError for a table that the log cannot be joined with, a feature that the log or the other table has too,
    and, when the chunks are read, for anything wrong with a row of a table.
    """
    tables = side_tables(config, log.schema, folder)
    if not tables:
        return log
    schema = log.schema
    for table in tables:
        schema = table.extended(schema)

    def batches() -> Iterator[pl.DataFrame]:
        for table in tables:
            table.begin()
        for chunk in log.batches():
            for table in tables:
                chunk = table.joined(chunk)
            yield chunk.select(list(schema.columns()))

    return replace(
        log,
        schema=schema,
        batches=batches,
        notes=lambda: [*log.notes(), *(line for table in tables for line in table.notes())],
        sources=(*log.sources, *(table.source.source for table in tables)),
    )


def side_tables(config: DataConfig, schema: EventSchema, folder: Path) -> list[SideTable]:
    """Return the side tables of a log whose ids are those of `schema`; UserError where it has none of a kind."""
    given: dict[Side, SideConfig | None] = {"items": config.items, "users": config.users}
    tables = [
        SideTable(side, one, scan_file(folder / one.path, one), schema)
        for side, one in given.items()
        if one is not None
    ]
    for table in tables:
        if table.side == "users" and not schema.has_user:
            raise UserError("data.users: the log has no users (data.columns: user: null)")
        if table.config.valid_from and not schema.has_time:
            raise UserError(f"data.{table.side}.valid_from: the log has no times (data.columns: time: null)")
    return tables


def own_features(config: DataConfig, schema: EventSchema) -> dict[str, str]:
    """Return the features of a run's schema that rows bring themselves, with their types: those of no side table."""
    sides = [side for side in (config.items, config.users) if side is not None]
    joined = {name for side in sides for name in (*side.categorical, *side.numeric, *side.lists)}
    return {name: kind for name, kind in schema.features.items() if name not in joined}


@dataclass(frozen=True)
class SideTable:
    """A table of items or of users, read once when the first rows are joined; schema: of the log, for its ids."""

    side: Side
    config: SideConfig
    source: RawTable
    schema: EventSchema

    @cached_property
    def _kinds(self) -> Kinds:
        config, path = self.config, self.source.path
        ids = [config.key, *config.categorical]
        named = {"key": config.key, **({FROM: config.valid_from} if config.valid_from else {})}
        kinds = kinds_in(self.source, ids)
        check_features(config, path)
        need(kinds, named | named_features(config), self.side, path)
        return kinds

    @cached_property
    def types(self) -> dict[str, str]:
        """The features and their types, those that the schema has already as it has them; UserError for a column that
        is not there, or cannot be what it is to be.
        """
        known = self.schema.features
        return {name: known.get(name, kind) for name, kind in feature_types(self._kinds, self.config).items()}

    @cached_property
    def counts(self) -> Counts:
        """What was found while the table was read and joined."""
        return Counts()

    @cached_property
    def _absent(self) -> list[pl.Series]:
        """The ids, each once, that the table does not have: one series at most."""
        return []

    def extended(self, schema: EventSchema) -> EventSchema:
        """Return `schema` with the table's features; UserError for one that is there already."""
        for name in self.types:
            if name in schema.features:
                raise UserError(
                    f"{self.source.path}: feature '{name}' (data.{self.side}) is a feature of the log or of another "
                    "table too; rename the column in one of them"
                )
        own = tuple(self.types) if self.side == "items" else ()
        return replace(schema, features=schema.features | self.types, item_features=(*schema.item_features, *own))

    def _columns(self) -> dict[str, Column]:
        """Return how the id, the time and the features are made, their remedies in the words of this table's keys."""
        config, kinds = self.config, self._kinds
        id_type: str = getattr(self.schema, IDS[self.side])
        made = {"id": id_column(config.key, kinds[config.key], id_type, self.side.removesuffix("s"))}
        own = feature_columns(kinds, config, self.types)
        if config.valid_from:
            own = {FROM: known_time_column(config.valid_from, config.time_unit, kinds[config.valid_from]), **own}
        return made | {
            name: replace(column, problem=_of_group(column.problem, f"data.{self.side}"))
            for name, column in own.items()
        }

    @cached_property
    def rows(self) -> pl.DataFrame:
        """The table: id, valid_from where it has one, and a column per feature; in the order of valid_from.

        Raises UserError, with file and row, for an empty id or valid_from, an id (of one valid_from) that stands twice,
        and a value that does not fit.
        """
        made, parts, numbers = self._columns(), [], []
        with self.source.naming_files():
            for chunk in self.source.chunks([column.source for column in made.values()]):
                if self.config.valid_from:
                    kind = self._kinds[self.config.valid_from]
                    check_unit(chunk, made[FROM], self.config.time_unit, kind, self.source.path)
                rows, origin = convert(chunk, made, self.source.path, self.counts)
                parts.append(rows)
                numbers.append(origin.numbers)
            rows = pl.concat(parts) if parts else pl.DataFrame(schema=self._schema())
            if parts:
                remedy = "" if self.config.valid_from else ", or name the time from which each counts as valid_from"
                check_ids(rows, Origin(str(self.source.path), pl.concat(numbers), names_of(made)), remedy)
        return rows.sort(FROM, maintain_order=True) if self.config.valid_from else rows

    def _schema(self) -> dict[str, pl.DataType]:
        columns = self.schema.columns()
        times = {FROM: columns["time"]} if self.config.valid_from else {}
        features = {feature_column(name): POLARS_TYPES[kind] for name, kind in self.types.items()}
        return {"id": columns[IDS[self.side]], **times, **features}

    def begin(self) -> None:
        """Forget what was counted of the rows joined so far."""
        for what in [what for what in self.counts if what.startswith(self.side)]:
            del self.counts[what]
        self._absent.clear()

    def joined(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Return `rows`, in their order, with the table's features as of each row's time, null where there are none."""
        key, table = IDS[self.side], self.rows.with_columns(found=True)
        if self.config.valid_from is None:
            out = rows.join(table, left_on=key, right_on="id", how="left", maintain_order="left")
        else:
            numbered = rows.with_row_index("row").sort("time", maintain_order=True)
            out = numbered.join_asof(
                table,
                left_on="time",
                right_on=FROM,
                by_left=key,
                by_right="id",
                strategy="backward",
                check_sortedness=False,  # both are in order of time
            ).sort("row")
        self._count(out.filter(pl.col("found").is_null())[key])
        return out.drop("found", "row", FROM, "id", strict=False)

    def _count(self, missed: pl.Series) -> None:
        """Count the rows without a value, `missed` their ids: of ids that the table does not have, or has later."""
        if not len(missed):
            return
        absent = missed  # without valid_from nothing comes later
        if self.config.valid_from is not None:
            absent = missed.filter(~missed.is_in(self.rows["id"].implode()))
        self._absent[:] = [pl.concat([*self._absent, absent.unique()]).unique()]
        for what, found in (
            (f"rows of ids that {self.source.path.name} does not have: their features are empty", len(absent)),
            ("rows before the first valid_from of their id: their features are empty", len(missed) - len(absent)),
        ):
            if found:
                self.counts[f"{self.side}: {what}"] += found

    def notes(self) -> list[str]:
        """Return what to tell the user of the table and of the rows that were joined."""
        lines = notes_of(self.counts)
        if self._absent and len(self._absent[0]):
            lines.append(f"{self.side}: {len(self._absent[0]):,} ids are not in {self.source.path.name}")
        if self.config.valid_from is None:
            lines.append(
                f"{self.side}: {self.source.path.name} has no valid_from, so its values count as known always, also "
                "what was learned of later"
            )
        return lines


def _of_group(problem: str, group: str) -> str:
    return problem.replace("data.columns.", f"{group}.").replace("set columns.", f"set {group}.")

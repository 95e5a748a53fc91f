"""From a user's columns to ours: the schema, and for each column how its values are made and what they must be."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import polars as pl

from recdistill.config.data import BehaviorsConfig, ColumnsConfig, TaskColumn
from recdistill.data.readers.files import ROW
from recdistill.errors import UserError, did_you_mean
from recdistill.tables.schema import POLARS_TYPES, EventSchema, feature_column
from recdistill.tables.validation import Origin

__all__ = ["Column", "behavior_columns", "convert", "event_columns", "make_time"]

UNITS = {"s": 1_000_000, "ms": 1_000, "us": 1}
INTEGERS = (pl.Int8, pl.Int16, pl.Int32, pl.Int64, pl.UInt8, pl.UInt16, pl.UInt32, pl.Boolean)  # what int64 holds
ISO = ("%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%dT%H:%M", "%Y-%m-%d")
TIME = pl.Datetime("us", "UTC")
Kinds = Mapping[str, pl.DataType]


@dataclass(frozen=True)
class Column:
    """source: the user's column; value: makes ours of it, null where it cannot; what: a value must be, for messages."""

    source: str
    value: pl.Expr
    what: str


def make_time(column: str, unit: str, kind: pl.DataType) -> Column:
    """Return the column that makes `column` a UTC time in microseconds; `unit` counts where `kind` is no
    time itself.
    """
    made = _time(column, unit, kind)
    return replace(
        made, value=pl.when(made.value.dt.year().is_between(1, 9998)).then(made.value)
    )  # what Python can show


def _time(column: str, unit: str, kind: pl.DataType) -> Column:
    value = pl.col(column)
    if isinstance(kind, pl.Datetime):
        aware = value.dt.convert_time_zone("UTC") if kind.time_zone else value.dt.replace_time_zone("UTC")
        return Column(column, aware.cast(TIME), "a time")
    if isinstance(kind, pl.Date):
        return Column(column, value.cast(pl.Datetime("us")).dt.replace_time_zone("UTC"), "a date")
    if unit in UNITS:
        number = value.cast(pl.Float64, strict=False) if kind.is_numeric() or isinstance(kind, pl.String) else None
        if number is None:
            return Column(column, pl.lit(None, TIME), f"a number of {unit}, but the column is {kind}")
        made = (number * UNITS[unit]).round().cast(pl.Int64, strict=False).cast(TIME)
        return Column(
            column, made, f"a time in {unit} since 1970; set columns.time_unit to s, ms, us, iso or a pattern"
        )
    return Column(column, _parsed(value.cast(pl.String), unit), f"a time as time_unit says ({unit})")


def _parsed(text: pl.Expr, unit: str) -> pl.Expr:
    if unit != "iso":
        return text.str.to_datetime(unit, time_unit="us", time_zone="UTC", strict=False)
    plain = text.str.replace(" ", "T", literal=True).str.strip_suffix("Z")
    naive = [plain.str.to_datetime(form, time_unit="us", strict=False).dt.replace_time_zone("UTC") for form in ISO]
    aware = plain.str.to_datetime("%Y-%m-%dT%H:%M:%S%.f%#z", time_unit="us", strict=False)
    return pl.coalesce(*naive, aware.dt.convert_time_zone("UTC"))


def _number(column: str, kind: pl.DataType) -> Column:
    fits = kind.is_numeric() or isinstance(kind, pl.String | pl.Boolean)
    value = pl.col(column).cast(pl.Float32, strict=False) if fits else pl.lit(None, pl.Float32)
    return Column(column, value, "a number")


def _task(spec: str | TaskColumn | int, kinds: Kinds, any_column: str) -> Column:
    if isinstance(spec, int):
        return Column(any_column, pl.lit(1.0, pl.Float32), "a row")
    if isinstance(spec, str):
        return _number(spec, kinds[spec])
    number = _number(spec.column, kinds[spec.column])
    return Column(spec.column, (number.value >= spec.at_least).cast(pl.Float32), number.what)


def _id_type(kind: pl.DataType) -> str:
    return "int64" if kind in INTEGERS else "string"


def _id(column: str, kind: str) -> Column:
    what = "an integer" if kind == "int64" else "text or a number"
    return Column(column, pl.col(column).cast(POLARS_TYPES[kind], strict=False), what)


def _list(column: str, separator: str, kind: pl.DataType) -> Column:
    value = pl.col(column)
    made = value.cast(pl.List(pl.String)) if isinstance(kind, pl.List) else value.cast(pl.String).str.split(separator)
    return Column(column, made, "a list")


def _named(columns: ColumnsConfig) -> dict[str, str]:
    """Return every key of the mapping that names a column of the user's table, with that name."""
    named = {"time": columns.time, "user": columns.user, "item": columns.item}
    named |= {key: name for key, name in (("sample_id", columns.sample_id), ("request", columns.request)) if name}
    named |= {
        f"tasks.{task}": spec if isinstance(spec, str) else spec.column
        for task, spec in columns.tasks.items()
        if not isinstance(spec, int)
    }
    named |= {f"label_times.{task}": name for task, name in columns.label_times.items()}
    named |= {f"categorical: {name}": name for name in columns.categorical}
    return (
        named
        | {f"numeric: {name}": name for name in columns.numeric}
        | {f"lists.{name}": name for name in columns.lists}
    )


def _need(kinds: Kinds, named: dict[str, str], group: str, path: Path) -> None:
    for key, name in named.items():
        if name not in kinds:
            raise UserError(f"{path}: no column '{name}' (data.{group}.{key}){did_you_mean(name, kinds)}")


def _check_features(columns: ColumnsConfig, path: Path) -> None:
    """Raise UserError for a feature that gives the label away, or stands twice and would be two of one name."""
    labels = {spec if isinstance(spec, str) else spec.column for spec in columns.tasks.values() if spec != 1}
    names = [*columns.categorical, *columns.numeric, *columns.lists]
    for place, name in enumerate(names):
        if name in labels | set(columns.label_times.values()):
            raise UserError(
                f"{path}: column '{name}' is named as a feature, but a label is made of it, or it says when one was "
                "known: leave it out of the features"
            )
        if name in names[:place]:
            raise UserError(f"{path}: column '{name}' is named as a feature twice; name it once")


def event_columns(kinds: Kinds, columns: ColumnsConfig, path: Path) -> tuple[EventSchema, dict[str, Column]]:
    """Return the schema and a column per column of the events table, but for a sample id that the mapping lacks.

    UserError when the mapping names a column that `kinds` does not have, or a feature twice.
    """
    named = _named(columns)
    _check_features(columns, path)
    _need(kinds, named, "columns", path)
    for key, name in named.items():
        if kinds[name].is_nested() and not key.startswith("lists."):
            raise UserError(f"{path}: column '{name}' (data.columns.{key}) holds {kinds[name]}, not one value a row")
    user, item = _id_type(kinds[columns.user]), _id_type(kinds[columns.item])
    features = {name: _id_type(kinds[name]) for name in columns.categorical}
    out = {"sample_id": _id(columns.sample_id, "int64")} if columns.sample_id else {}
    out |= {"time": make_time(columns.time, columns.time_unit, kinds[columns.time])}
    out |= {"user_id": _id(columns.user, user), "item_id": _id(columns.item, item)}
    out |= {"request_id": _id(columns.request, "int64")} if columns.request else {}
    out |= {feature_column(name): _id(name, kind) for name, kind in features.items()}
    out |= {feature_column(name): _number(name, kinds[name]) for name in columns.numeric}
    out |= {feature_column(name): _list(name, separator, kinds[name]) for name, separator in columns.lists.items()}
    out |= {f"label_{task}": _task(spec, kinds, columns.item) for task, spec in columns.tasks.items()}
    out |= {
        f"label_time_{task}": make_time(name, columns.time_unit, kinds[name])
        for task, name in columns.label_times.items()
    }
    features |= dict.fromkeys(columns.numeric, "float32") | dict.fromkeys(columns.lists, "list<string>")
    return EventSchema(
        tuple(columns.tasks), features, user, item, columns.request is not None, tuple(columns.label_times)
    ), out


def behavior_columns(kinds: Kinds, columns: BehaviorsConfig, schema: EventSchema, path: Path) -> dict[str, Column]:
    """Return a column per column of the behaviors table, ids of the types that `schema` has; UserError as above."""
    named = {key: getattr(columns, key) for key in ("time", "user", "item", "action")}
    _need(kinds, {key: name for key, name in named.items() if name}, "behaviors", path)
    action = Column(
        columns.action or columns.item,
        pl.col(columns.action).cast(pl.String) if columns.action else pl.lit("event"),
        "text",
    )
    return {
        "user_id": _id(columns.user, schema.user_id),
        "item_id": _id(columns.item, schema.item_id),
        "time": make_time(columns.time, columns.time_unit, kinds[columns.time]),
        "action": action,
    }


def convert(chunk: pl.DataFrame, columns: dict[str, Column], path: Path) -> tuple[pl.DataFrame, Origin]:
    """Return `columns` made of a raw chunk, and where its rows came from; UserError at the first value that
    does not fit.
    """
    out = chunk.select(**{name: column.value for name, column in columns.items()})
    origin = Origin(str(path), chunk[ROW], {name: column.source for name, column in columns.items()})
    for name, column in columns.items():
        lost = (out[name].is_null() & chunk[column.source].is_not_null()).arg_true()
        if len(lost):
            raise origin.refuse(lost[0], name, f"not {column.what}; got {chunk[column.source][lost[0]]!r}")
    return out, origin

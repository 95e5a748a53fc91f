"""From a user's columns to ours: the schema, and a column for each of the table's."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import polars as pl

from recdistill.config.data import BehaviorsConfig, ColumnsConfig, SideConfig
from recdistill.data.readers.columns import Column, Kind, Kinds
from recdistill.data.readers.files import ROW
from recdistill.data.readers.ids import category_type, check_dtypes, id_column, id_type, is_text
from recdistill.data.readers.texts import layout_hint
from recdistill.data.readers.times import label_time_column, past_time_column, time_column
from recdistill.data.readers.values import label_column, list_column, numeric_column, weight_column
from recdistill.defaults import NEW_ROW_TIME, ROW_TIMES_FROM
from recdistill.errors import UserError, did_you_mean
from recdistill.tables.delta.types import TIME
from recdistill.tables.schema import EventSchema, feature_column
from recdistill.tables.validation import Origin

__all__ = [
    "NEW_TIME",
    "behavior_columns",
    "check_features",
    "check_ids",
    "event_columns",
    "event_schema",
    "feature_columns",
    "feature_types",
    "named_features",
    "need",
]

# Of a log without times: a row each microsecond from 2000-01-01. No datetime: it would start polars' threads on import,
# and a process that has them cannot be forked (stream/prefork).
ROW_TIME = Column(ROW, (pl.lit(ROW_TIMES_FROM) + pl.col(ROW).cast(pl.Int64)).cast(TIME), "not a row")
NEW_TIME = Column(ROW, pl.lit(NEW_ROW_TIME).cast(TIME), "not a row")
MAY_LACK = ("columns.time", "columns.user")  # keys that may be null
ROW_USER = Column(ROW, pl.col(ROW).cast(pl.Int64), "not a row")


def _named(columns: ColumnsConfig) -> dict[str, str]:
    """Return every key of the mapping that names a column of the user's table, with that name."""
    named = {key: name for key in ("time", "user", "item", "sample_id", "request") if (name := getattr(columns, key))}
    named |= {
        f"tasks.{task}": spec if isinstance(spec, str) else spec.column
        for task, spec in columns.tasks.items()
        if not isinstance(spec, int)
    }
    named |= {f"label_times.{task}": name for task, name in columns.label_times.items()}
    for sequence, one in columns.sequences.items():
        named |= {f"sequences.{sequence}.items": one.items}
        named |= {f"sequences.{sequence}.times": one.times} if one.times is not None else {}
    named |= {"weight": columns.weight} if columns.weight else {}
    return named | named_features(columns)


def named_features(columns: ColumnsConfig | SideConfig) -> dict[str, str]:
    """Return every key of a mapping that names a feature, with its column."""
    named = {f"categorical: {name}": name for name in columns.categorical}
    return (
        named
        | {f"numeric: {name}": name for name in columns.numeric}
        | {f"lists.{name}": name for name in columns.lists}
    )


def need(kinds: Kinds, named: dict[str, str], group: str, path: Path) -> None:
    """Raise UserError for a column that is not there, or not of one value a row."""
    for key, name in named.items():
        if name not in kinds:
            none = f"; where the log has none, set {key}: null" if f"{group}.{key}" in MAY_LACK else ""
            hint = layout_hint(kinds) or none
            raise UserError(f"{path}: no column '{name}' (data.{group}.{key}){did_you_mean(name, kinds)}{hint}")
        kind = kinds[name]
        inner = getattr(kind.stored, "inner", None) if key.startswith(("lists.", "sequences.")) else None
        if not (kind.single if inner is None else Kind(inner, inner).single):
            entry = "one value a row" if inner is None else "lists of one value each"
            hint = _unnested(key) if isinstance(kind.stored, pl.List | pl.Array) and inner is None else ""
            raise UserError(f"{path}: column '{name}' (data.{group}.{key}) holds {kind.stored}, not {entry}{hint}")


def _unnested(key: str) -> str:
    """Return what to do about a list where one value is needed."""
    if key.startswith(("categorical", "numeric")):
        return "; name it under lists"
    return "; a log has a row for each event: write one for each entry"


def check_features(columns: ColumnsConfig | SideConfig, path: Path) -> None:
    """Raise UserError for a feature that stands twice: it would be two of one name."""
    names = [*columns.categorical, *columns.numeric, *columns.lists]
    for place, name in enumerate(names):
        if name in names[:place]:
            raise UserError(f"{path}: column '{name}' is named as a feature twice; name it once")


def check_ids(rows: pl.DataFrame, origin: Origin, remedy: str = "") -> None:
    """Raise UserError for an empty `id` of a table of items or users, and for one that stands twice; where the rows
    have `valid_from`, twice from one time, or an empty one. remedy: what else may be done about one that stands twice.
    """
    keys = [name for name in ("id", "valid_from") if name in rows.columns]
    for name in keys:
        if rows[name].has_nulls():
            raise origin.refuse(int(rows[name].is_null().arg_true()[0]), name, "is empty; leave such rows out")
    twice = rows.select(~pl.struct(keys).is_first_distinct()).to_series().arg_true()
    if len(twice):
        since = " with one valid_from" if len(keys) > 1 else ""
        problem = f"stands twice{since}; keep one row of it{remedy}; got {rows['id'][twice[0]]!r}"
        raise origin.refuse(int(twice[0]), "id", problem)


def event_schema(kinds: Kinds, columns: ColumnsConfig, path: Path) -> EventSchema:
    """Return the schema of a log with such columns.

    UserError when the mapping names a column that `kinds` does not have or that cannot be what it is to be, or a
    feature twice.
    """
    check_features(columns, path)
    need(kinds, _named(columns), "columns", path)
    check_dtypes(columns, path)
    sample = columns.sample_id
    return EventSchema(
        tuple(columns.tasks),
        feature_types(kinds, columns),
        user_id=_id_type(kinds, columns, "user", columns.user) if columns.user else "int64",
        item_id=_id_type(kinds, columns, "item", columns.item),
        has_request=columns.request is not None,
        label_times=tuple(columns.label_times),
        sequences={name: one.times is not None for name, one in columns.sequences.items()},
        sample_key=sample is not None and _id_type(kinds, columns, "sample_id", sample) == "string",
        has_user=columns.user is not None,
        has_time=columns.time is not None,
        soft=columns.soft,
        has_weight=columns.weight is not None,
        regression=columns.regression,
        levels=columns.levels,
    )


def feature_types(kinds: Kinds, columns: ColumnsConfig | SideConfig) -> dict[str, str]:
    """Return the type of every feature of a mapping, as a schema has it."""
    categories = {
        name: "string" if is_text(columns, name) else category_type(kinds[name]) for name in columns.categorical
    }
    return categories | dict.fromkeys(columns.numeric, "float32") | dict.fromkeys(columns.lists, "list<string>")


def feature_columns(kinds: Kinds, columns: ColumnsConfig | SideConfig, types: Mapping[str, str]) -> dict[str, Column]:
    """Return a column of the events table per feature of a mapping, of `types`."""
    out = {feature_column(name): id_column(name, kinds[name], types[name], name) for name in columns.categorical}
    out |= {feature_column(name): numeric_column(name, kinds[name]) for name in columns.numeric}
    return out | {
        feature_column(name): list_column(name, separator, kinds[name]) for name, separator in columns.lists.items()
    }


def _id_type(kinds: Kinds, columns: ColumnsConfig, key: str, name: str) -> str:
    return "string" if is_text(columns, key, name) else id_type(kinds[name])


def event_columns(kinds: Kinds, columns: ColumnsConfig, schema: EventSchema, path: Path) -> dict[str, Column]:
    """Return a column per column of the events table, of the types that `schema` has.

    Without a user each row has one of its own, without a time it is a microsecond after the row before. Not for a
    sample id that the mapping lacks; `sample_key` in place of `sample_id` where it is text, and `request_id` as text
    where the requests are. UserError as `event_schema`.
    """
    need(kinds, _named(columns), "columns", path)
    out = _ids(kinds, columns, schema)
    out["time"] = time_column(columns.time, columns.time_unit, kinds[columns.time]) if columns.time else ROW_TIME
    out |= feature_columns(kinds, columns, schema.features)
    out |= {"weight": weight_column(columns.weight, kinds[columns.weight])} if columns.weight else {}
    for task, spec in columns.tasks.items():
        out[f"label_{task}"] = label_column(task, spec, kinds, columns.item)
    for task, name in columns.label_times.items():
        out[f"label_time_{task}"] = label_time_column(name, columns.time_unit, kinds[name])
    return out


def _ids(kinds: Kinds, columns: ColumnsConfig, schema: EventSchema) -> dict[str, Column]:
    out = {}
    if columns.sample_id and schema.sample_key:
        out["sample_key"] = id_column(columns.sample_id, kinds[columns.sample_id], "string", "sample_id")
    elif columns.sample_id:
        out["sample_id"] = id_column(columns.sample_id, kinds[columns.sample_id], "int64", "sample_id")
    out["user_id"] = id_column(columns.user, kinds[columns.user], schema.user_id, "user") if columns.user else ROW_USER
    out["item_id"] = id_column(columns.item, kinds[columns.item], schema.item_id, "item")
    if columns.request:
        wanted = _id_type(kinds, columns, "request", columns.request)
        out["request_id"] = id_column(columns.request, kinds[columns.request], wanted, "request", least=0)
    return out


def behavior_columns(kinds: Kinds, columns: BehaviorsConfig, schema: EventSchema, path: Path) -> dict[str, Column]:
    """Return a column per column of the behaviors table, ids of the types that `schema` has; UserError as above."""
    named = {key: name for key in ("time", "user", "item", "action") if (name := getattr(columns, key))}
    need(kinds, named, "behaviors", path)
    action = Column(columns.item, pl.lit("event"), "not a row")
    if columns.action:
        action = id_column(columns.action, kinds[columns.action], "string", "action")
    return {
        "user_id": id_column(columns.user, kinds[columns.user], schema.user_id, "user"),
        "item_id": id_column(columns.item, kinds[columns.item], schema.item_id, "item"),
        "time": past_time_column(columns.time, columns.time_unit, kinds[columns.time]),
        "action": action,
    }

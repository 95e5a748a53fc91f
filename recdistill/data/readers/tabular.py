"""Any Parquet, CSV or Delta table, by a mapping of its columns."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import polars as pl
from deltalake import DeltaTable
from polars.exceptions import PolarsError

from recdistill.config import BehaviorsConfig, ColumnsConfig, DataConfig, TaskColumn
from recdistill.data.readers.log import Log
from recdistill.errors import UserError, did_you_mean
from recdistill.tables import POLARS_TYPES, EventSchema

__all__ = ["read_table", "scan_file"]

CHUNK = 262_144  # rows per commit
UNITS = {"s": 1_000_000, "ms": 1_000, "us": 1}
INTEGERS = (pl.Int8, pl.Int16, pl.Int32, pl.Int64, pl.UInt8, pl.UInt16, pl.UInt32, pl.UInt64, pl.Boolean)


def scan_file(path: Path) -> pl.LazyFrame:
    """Return a lazy frame of a Parquet file, CSV file (.csv, .tsv) or Delta folder.

    UserError when it is missing, empty, unreadable or not what its name says.
    """
    if not path.exists():
        raise UserError(f"{path}: no such file; check data.path and --data")
    try:
        if path.is_dir():
            frame = pl.scan_delta(DeltaTable(str(path)))
        elif path.stat().st_size == 0:
            raise UserError(f"{path}: the file is empty")
        elif path.suffix in (".csv", ".tsv"):
            frame = pl.scan_csv(path, separator="\t" if path.suffix == ".tsv" else ",", infer_schema_length=10_000)
        else:
            frame = pl.scan_parquet(path)
        frame.collect_schema()
        return frame
    except PermissionError:
        raise UserError(f"{path}: no permission to read it") from None
    except (PolarsError, OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read as a table: {str(error).splitlines()[0]}") from None


def collect(frame: pl.LazyFrame, path: Path) -> pl.DataFrame:
    """Return the frame's rows; UserError naming the file when its bytes are damaged."""
    try:
        return frame.collect()
    except (PolarsError, OSError) as error:
        raise UserError(f"{path}: damaged or of the wrong type: {str(error).splitlines()[0]}") from None


def _time(column: str, unit: str, kind: pl.DataType) -> pl.Expr:
    """Return the expression that makes `column` a UTC time in microseconds."""
    if isinstance(kind, pl.Datetime):
        value = pl.col(column)
        aware = value.dt.convert_time_zone("UTC") if kind.time_zone else value.dt.replace_time_zone("UTC")
        return aware.cast(pl.Datetime("us", "UTC"))
    if unit in UNITS:
        return (pl.col(column).cast(pl.Float64) * UNITS[unit]).round().cast(pl.Int64).cast(pl.Datetime("us", "UTC"))
    pattern = None if unit == "iso" else unit
    return pl.col(column).str.to_datetime(pattern, time_unit="us", time_zone="UTC")


def _task(task: str | TaskColumn) -> pl.Expr:
    if isinstance(task, TaskColumn):
        return (pl.col(task.column) >= task.at_least).cast(pl.Float32)
    return pl.col(task).cast(pl.Float32)


def _need(found: dict[str, pl.DataType], column: str, key: str, path: Path) -> pl.DataType:
    if column not in found:
        raise UserError(f"{path}: no column '{column}' (data.{key}){did_you_mean(column, found)}")
    return found[column]


def _id_type(kind: pl.DataType) -> str:
    return "int64" if kind in INTEGERS else "string"


def _list_expr(column: str, separator: str, kind: pl.DataType) -> pl.Expr:
    value = pl.col(column)
    return value.cast(pl.List(pl.String)) if isinstance(kind, pl.List) else value.cast(pl.String).str.split(separator)


def _event_columns(
    found: dict[str, pl.DataType], columns: ColumnsConfig, path: Path
) -> tuple[EventSchema, dict[str, pl.Expr], dict[str, str]]:
    """Return the schema, an expression per column of the events table, and the type per feature."""
    used = {"columns.time": columns.time, "columns.user": columns.user, "columns.item": columns.item}
    used |= {f"columns.categorical: {name}": name for name in columns.categorical}
    used |= {f"columns.numeric: {name}": name for name in columns.numeric}
    used |= {f"columns.lists.{name}": name for name in columns.lists}
    used |= {
        f"columns.tasks.{task}": spec if isinstance(spec, str) else spec.column for task, spec in columns.tasks.items()
    }
    used |= {f"columns.label_times.{task}": name for task, name in columns.label_times.items()}
    used |= {"columns.sample_id": columns.sample_id} if columns.sample_id else {}
    used |= {"columns.request": columns.request} if columns.request else {}
    for key, name in used.items():
        _need(found, name, key, path)
    features = {name: _id_type(found[name]) for name in columns.categorical}
    features |= dict.fromkeys(columns.numeric, "float32") | dict.fromkeys(columns.lists, "list<string>")
    kinds = {"user_id": _id_type(found[columns.user]), "item_id": _id_type(found[columns.item])}
    row = (
        pl.int_range(pl.len(), dtype=pl.Int64)
        if columns.sample_id is None
        else pl.col(columns.sample_id).cast(pl.Int64)
    )
    out = {"sample_id": row, "time": _time(columns.time, columns.time_unit, found[columns.time])}
    out |= {
        "user_id": pl.col(columns.user).cast(POLARS_TYPES[kinds["user_id"]]),
        "item_id": pl.col(columns.item).cast(POLARS_TYPES[kinds["item_id"]]),
    }
    out |= {"request_id": pl.col(columns.request).cast(pl.Int64)} if columns.request else {}
    for name, kind in features.items():
        is_list = kind.startswith("list")
        out[name] = (
            _list_expr(name, columns.lists[name], found[name]) if is_list else pl.col(name).cast(POLARS_TYPES[kind])
        )
    out |= {f"label_{task}": _task(spec) for task, spec in columns.tasks.items()}
    out |= {
        f"label_time_{task}": _time(name, columns.time_unit, found[name]) for task, name in columns.label_times.items()
    }
    schema = EventSchema(tuple(columns.tasks), features, kinds["user_id"], kinds["item_id"], columns.request is not None,
                         tuple(columns.label_times))  # fmt: skip
    return schema, out, features


def _ordered(frame: pl.LazyFrame, config: DataConfig, path: Path) -> Iterator[pl.DataFrame]:
    """Yield chunks in time order; UserError at the first row that goes back in time unless `data.sort`."""
    if config.sort:
        frame = frame.sort("time", maintain_order=True)
    if config.limit:
        frame = frame.head(config.limit)
    rows = collect(frame, path)
    back = rows.select(pl.arg_where(pl.col("time").diff() < pl.duration())).to_series()
    if len(back):
        raise UserError(
            f"{path}: row {back[0]}, column 'time': earlier than the row before; sort the file or set data.sort: true"
        )
    double = rows.select(pl.arg_where(pl.col("sample_id").is_duplicated())).to_series()
    if len(double):
        at = int(double[0])
        raise UserError(
            f"{path}: row {at}, column 'sample_id': {rows['sample_id'][at]} stands twice; a sample id may stand once"
        )
    for at in range(0, len(rows), CHUNK):
        yield rows.slice(at, CHUNK)


def _behavior_chunks(path: Path, columns: BehaviorsConfig, schema: EventSchema) -> Iterator[pl.DataFrame]:
    frame = scan_file(path)
    found = dict(frame.collect_schema())
    for key in ("time", "user", "item"):
        _need(found, getattr(columns, key), f"behaviors.{key}", path)
    action = pl.lit("event") if columns.action is None else pl.col(columns.action).cast(pl.String)
    if columns.action:
        _need(found, columns.action, "behaviors.action", path)
    rows = collect(frame.select(
        user_id=pl.col(columns.user).cast(POLARS_TYPES[schema.user_id]), item_id=pl.col(columns.item).cast(POLARS_TYPES[schema.item_id]),
        time=_time(columns.time, columns.time_unit, found[columns.time]), action=action,
    ).filter(pl.col("item_id").is_not_null() & pl.col("user_id").is_not_null()).sort("time", maintain_order=True), path)  # fmt: skip
    for at in range(0, len(rows), CHUNK):
        yield rows.slice(at, CHUNK)


def read_table(config: DataConfig, folder: Path | None) -> Log:
    """Return the log that `config` maps; paths are relative to `folder`. UserError for anything that does not fit."""
    base = folder or Path()
    path = base / config.path
    frame = scan_file(path)
    schema, expressions, _ = _event_columns(dict(frame.collect_schema()), config.columns, path)
    schema = EventSchema(schema.tasks, schema.features, schema.user_id, schema.item_id, schema.has_request, schema.label_times,
                         {task: (rates[0], rates[1]) for task, rates in config.keep_rates.items()})  # fmt: skip
    behaviors = config.behaviors
    if behaviors is not None:
        scan_file(base / behaviors.path)
    return Log(
        schema, lambda: _ordered(frame.select(**expressions), config, path),
        None if behaviors is None else lambda: _behavior_chunks(base / behaviors.path, behaviors, schema), str(path),
    )  # fmt: skip

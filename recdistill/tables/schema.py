"""What an events table holds: tasks, features, id types, keep rates. It travels in the Delta table's own metadata."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields

import polars as pl

from recdistill.defaults import LIST_LENGTH
from recdistill.errors import UserError
from recdistill.tables.delta.types import TIME
from recdistill.tables.sequences import sequence_columns

__all__ = ["POLARS_TYPES", "EventSchema", "feature_column"]

POLARS_TYPES: dict[str, pl.DataType] = {
    "int64": pl.Int64(),
    "float32": pl.Float32(),
    "string": pl.String(),
    "list<int64>": pl.List(pl.Int64()),
    "list<string>": pl.List(pl.String()),
}


def feature_column(name: str) -> str:
    """Return the table's column of a feature: whatever users call theirs, it is none of the table's own."""
    return f"feature_{name}"


@dataclass(frozen=True)
class EventSchema:
    """tasks: label names, the first is the main one; features: name -> key of POLARS_TYPES; id types: int64 or string.

    keep_rates: task -> (k+, k-), the probabilities with which a positive or negative sample survived into the log.
    edges: float32 feature -> ascending edges of the buckets that models see; of any scale for a feature without.
    scales: float32 feature -> (unit, centre, spread) by which models read it as a value; see data/scales.py.
    sequences: lists of items that rows bring, name -> whether with times; see tables/sequences.py.
    list_length: how many entries of a list models see, the last.
    sample_key: whether samples have a text of the user's that names them, besides their number.
    has_user, has_time: whether the log has users and times; without users `user_id` is the row's number, without times
    `time` is, in microseconds from 2000-01-01, and without either there are no histories.
    Raises UserError for an unknown type, a keep rate outside (0, 1], and tasks whose columns would be one.
    """

    tasks: tuple[str, ...]
    features: dict[str, str] = field(default_factory=dict)
    user_id: str = "int64"
    item_id: str = "int64"
    has_request: bool = False
    label_times: tuple[str, ...] = ()
    keep_rates: dict[str, tuple[float, float]] = field(default_factory=dict)
    edges: dict[str, tuple[float, ...]] = field(default_factory=dict)
    scales: dict[str, tuple[float, float, float]] = field(default_factory=dict)
    sequences: dict[str, bool] = field(default_factory=dict)
    list_length: int = LIST_LENGTH
    sample_key: bool = False
    has_user: bool = True
    has_time: bool = True

    def __post_init__(self) -> None:
        for name, kind in self.features.items():
            if kind not in POLARS_TYPES:
                raise UserError(f"feature '{name}': type '{kind}' is not one of {', '.join(POLARS_TYPES)}")
        for task in self.label_times:
            if f"time_{task}" in self.tasks:
                raise UserError(f"tasks '{task}' with a label time and 'time_{task}' share a column; rename one")
        for task, rates in self.keep_rates.items():
            if not all(0 < rate <= 1 for rate in rates):
                raise UserError(f"keep rates of '{task}' must be in (0, 1]; got {tuple(rates)}")

    def columns(self) -> dict[str, pl.DataType]:
        """Return the table's columns and types, in order, without the partition column `date`."""
        ids = {"user_id": POLARS_TYPES[self.user_id], "item_id": POLARS_TYPES[self.item_id]}
        request: dict[str, pl.DataType] = {"request_id": pl.Int64()} if self.has_request else {}
        labels: dict[str, pl.DataType] = {f"label_{task}": pl.Float32() for task in self.tasks}
        times: dict[str, pl.DataType] = {f"label_time_{task}": TIME for task in self.label_times}
        features = {feature_column(name): POLARS_TYPES[kind] for name, kind in self.features.items()}
        features |= sequence_columns(self.sequences, ids["item_id"])
        key: dict[str, pl.DataType] = {"sample_key": pl.String()} if self.sample_key else {}
        return {"sample_id": pl.Int64(), **key, "time": TIME, **ids, **request, **features, **labels, **times}

    @property
    def has_histories(self) -> bool:
        """Return whether what a user did before can be known."""
        return self.has_user and self.has_time

    def check_group(self, group: str) -> None:
        """Raise UserError when rows are to be grouped by 'request' and have none."""
        if group == "request" and not self.has_request:
            raise UserError(
                "evaluate.group is 'request', but the log has no request ids; name their column as "
                "data.columns.request, or set evaluate.group: user"
            )

    def to_json(self) -> str:
        """Return the schema as JSON with sorted keys."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> EventSchema:
        """Return the schema that `to_json` wrote; UserError for one of another version."""
        tree = json.loads(text)
        if set(tree) != {one.name for one in fields(cls)}:
            raise UserError("the tables are of another version of recdistill; ingest the log into another --out")
        for pairs in ("keep_rates", "edges", "scales"):
            tree[pairs] = {name: tuple(values) for name, values in tree[pairs].items()}
        return cls(**{**tree, "tasks": tuple(tree["tasks"]), "label_times": tuple(tree["label_times"])})

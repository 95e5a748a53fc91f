"""What an events table holds: tasks, features, id types, keep rates. It travels in the Delta table's own metadata."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields

import polars as pl

from recdistill.defaults import LIST_LENGTH
from recdistill.errors import UserError
from recdistill.tables.delta.types import TIME
from recdistill.tables.regression import Regression
from recdistill.tables.sequences import sequence_columns

__all__ = ["POLARS_TYPES", "VECTOR_SIDES", "EventSchema", "feature_column", "vector_column"]

POLARS_TYPES: dict[str, pl.DataType] = {
    "int64": pl.Int64(),
    "float32": pl.Float32(),
    "string": pl.String(),
    "list<int64>": pl.List(pl.Int64()),
    "list<string>": pl.List(pl.String()),
}


NEAREST = 1.1754943508222875e-38  # the smallest float32 above 0 of full precision
VECTOR_SIDES = ("item", "user")
VECTOR_NUMBERS = 1 << 24  # of vectors that are held at a time


def feature_column(name: str) -> str:
    """Return the table's column of a feature: whatever users call theirs, it is none of the table's own."""
    return f"feature_{name}"


def vector_column(name: str) -> str:
    """Return the table's column of the vectors that rows bring themselves."""
    return f"vector_{name}"


@dataclass(frozen=True)
class EventSchema:
    """tasks: label names, the first is the main one; features: name -> key of POLARS_TYPES; id types: int64 or string.

    keep_rates: task -> (k+, k-), the probabilities with which a positive or negative sample survived into the log.
    edges: float32 feature -> ascending edges of the buckets that models see; of any scale for a feature without.
    scales: float32 feature -> (unit, centre, spread) by which models read it as a value; see data/scales.py.
    sequences: lists of items that rows bring, name -> whether with times; see tables/sequences.py.
    list_length: how many entries of a list models see, the last.
    sample_key: whether samples have a text of the user's that names them, besides their number.
    negatives: how many were sampled per positive, 0 for a log that came with its own. With them `log_q` is the
    logarithm of the probability with which one draw, as of the row's time, gives its item, null where it gives none;
    corrected: whether models learn logits without the odds of the draw; see `draw_offset`.
    has_user, has_time: whether the log has users and times; without users `user_id` is the row's number, without times
    `time` is, in microseconds from 2000-01-01, and without either there are no histories.
    has_weight: whether each row has a weight, what it counts in learning and in scores; otherwise all count alike.
    soft: tasks whose labels are anything from 0 to 1, how sure it is that the outcome is positive.
    regression: tasks whose labels are values -> (loss, scale), see `Regression`.
    levels: labels with several levels -> their tasks, ascending.
    vectors: name -> (item or user, entries of a vector) of the tables of vectors that lie next to the events.
    row_vectors: name -> (item or user: whose they are, entries, scale: what they are multiplied by where models read
    them) of the vectors that rows bring themselves.
    item_features: features that a table of items gave: they go with the item wherever it is drawn.
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
    soft: tuple[str, ...] = ()
    has_weight: bool = False
    regression: dict[str, tuple[str, float]] = field(default_factory=dict)
    levels: dict[str, tuple[str, ...]] = field(default_factory=dict)
    negatives: int = 0
    corrected: bool = False
    item_features: tuple[str, ...] = ()
    vectors: dict[str, tuple[str, int]] = field(default_factory=dict)
    row_vectors: dict[str, tuple[str, int, float]] = field(default_factory=dict)

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
        features |= dict.fromkeys(self.row_vector_widths, pl.List(pl.Float32()))
        features |= sequence_columns(self.sequences, ids["item_id"])
        key: dict[str, pl.DataType] = {"sample_key": pl.String()} if self.sample_key else {}
        weight: dict[str, pl.DataType] = {"weight": pl.Float32()} if self.has_weight else {}
        drawn: dict[str, pl.DataType] = {"log_q": pl.Float32()} if self.negatives else {}
        rest = {**ids, **request, **features, **weight, **labels, **times, **drawn}
        return {"sample_id": pl.Int64(), **key, "time": TIME, **rest}

    def rule(self, task: str) -> Regression | None:
        """Return how a task's values are learned, None for one of outcomes."""
        return Regression(*self.regression[task]) if task in self.regression else None  # type: ignore[arg-type]

    @property
    def positive_from(self) -> float:
        """Return the least label of the first task that histories and counts show as positive: a half; of a regression
        any above 0.
        """
        return NEAREST if self.tasks[0] in self.regression else 0.5

    @property
    def row_vector_widths(self) -> dict[str, int]:
        """Return the table's columns of vectors, and how many entries each has."""
        return {vector_column(name): width for name, (_, width, _) in self.row_vectors.items()}

    def rows_at_a_time(self, rows: int) -> int:
        """Return how many rows to hold at a time: `rows`, fewer where their vectors would take more than 64 MiB."""
        return min(rows, max(1, VECTOR_NUMBERS // max(sum(self.row_vector_widths.values()), 1)))

    @property
    def has_histories(self) -> bool:
        """Return whether what a user did before can be known."""
        return self.has_user and self.has_time

    @property
    def vector_widths(self) -> tuple[tuple[str, int], ...]:
        """Return (side, numbers that models read of its vectors) of the sides that have any: item, user, and the row
        itself. They are the entries of each vector, and whether it is missing.
        """
        widths = {side: sum(width + 1 for of, width in self.vectors.values() if of == side) for side in VECTOR_SIDES}
        widths["row"] = sum(width + 1 for width in self.row_vector_widths.values())
        return tuple((side, width) for side, width in widths.items() if width)

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
        for pairs in ("keep_rates", "edges", "scales", "regression", "levels", "vectors", "row_vectors"):
            tree[pairs] = {name: tuple(values) for name, values in tree[pairs].items()}
        tuples = ("tasks", "label_times", "soft", "item_features")
        return cls(**tree | {names: tuple(tree[names]) for names in tuples})

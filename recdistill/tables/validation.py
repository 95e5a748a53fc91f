"""Value checks before a commit: each refusal is one line that names the source, the row and the column."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import polars as pl

from recdistill.errors import UserError, did_you_mean
from recdistill.tables.schema import EventSchema
from recdistill.tables.sequences import sequence_faults

__all__ = [
    "Origin",
    "RowError",
    "VALUE",
    "WEIGHT",
    "check_behaviors",
    "check_channels",
    "check_columns",
    "check_events",
    "check_label_times",
    "check_logits",
    "check_needed",
    "check_outcomes",
    "check_times",
    "check_unique",
    "check_vectors",
    "odd_vector",
    "value_rules",
]

FIRST, LAST = -62_135_596_800_000_000, 253_402_300_800_000_000  # microseconds of Python's years 1 to 9999
WEIGHT = "must be a finite number of at least 0; leave out rows that have none"
VALUE = {"log": "a finite number of at least 0", "huber": "a finite number"}  # of a regression
EARLY = "lies before 1970; check the time unit"
SKEW = timedelta(days=1)  # clocks and time zones of the machines that wrote the log


class RowError(UserError):
    """What is wrong with one row of a source."""

    def __init__(self, file: str, row: int, problem: str) -> None:
        super().__init__(f"{file}: row {row}, {problem}")
        self.file, self.row, self.problem = file, row, problem

    def __reduce__(self) -> tuple[type[RowError], tuple[str, int, str]]:
        """Return what another process makes it of."""
        return RowError, (self.file, self.row, self.problem)

    def at(self, file: str, row: int) -> RowError:
        """Return the same error about a row that stands elsewhere."""
        return RowError(file, row, self.problem)


@dataclass(frozen=True)
class Origin:
    """Where rows came from: the file, the numbers they have in it, and its own names for our columns."""

    file: str
    numbers: pl.Series
    names: dict[str, str] = field(default_factory=dict)

    def refuse(self, at: int, column: str, problem: str) -> UserError:
        """Return the error about one row and column."""
        return RowError(self.file, int(self.numbers[at]), f"column '{self.names.get(column, column)}': {problem}")


def _refuse(rows: pl.DataFrame, bad: pl.Expr, source: str | Origin, column: str, problem: str) -> None:
    """Raise UserError when `bad` holds anywhere, with the first row, its value and how many there are."""
    found = rows.select(pl.arg_where(bad.fill_null(False))).to_series()
    if len(found):
        at = int(found[0])
        more = f" (and {len(found) - 1:,} more rows)" if len(found) > 1 else ""
        origin = source if isinstance(source, Origin) else Origin(source, pl.int_range(len(rows), eager=True))
        raise origin.refuse(at, column, f"{problem}; got {_shown(rows[column], at)}{more}")


def _shown(values: pl.Series, at: int) -> str:
    """Return a value as Python writes it, a time as text; of a year that Python does not have, by its count."""
    if isinstance(values.dtype, pl.Datetime) and (count := values.to_physical()[at]) is not None:
        return str(values[at]) if FIRST <= count < LAST else f"{count} {values.dtype.time_unit} since 1970"
    return repr(values[at])


def check_columns(rows: pl.DataFrame, columns: dict[str, pl.DataType], source: str) -> pl.DataFrame:
    """Return `rows` with exactly `columns`, in order; UserError for an unknown, missing or differently typed one."""
    for name in rows.columns:
        if name not in columns:
            raise UserError(f"{source}: column '{name}' is not in the table's schema{did_you_mean(name, columns)}")
    for name, kind in columns.items():
        if name not in rows.columns:
            raise UserError(f"{source}: column '{name}' is missing{did_you_mean(name, rows.columns)}")
        if rows.schema[name] != kind:
            raise UserError(f"{source}: column '{name}' has type {rows.schema[name]}, the table has {kind}")
    return rows.select(list(columns))


def check_unique(rows: pl.DataFrame, source: str | Origin, column: str = "sample_id") -> None:
    """Raise UserError when a sample id stands twice."""
    if rows[column].n_unique() < len(rows):  # a tenth of the time that looking for them takes
        _refuse(rows, pl.col(column).is_duplicated(), source, column, "a sample id may stand once")


def check_times(rows: pl.DataFrame, source: str | Origin, hint: str = "") -> None:
    """Raise UserError for null times, times in the future and times before 1970; `hint` follows what is missing."""
    _refuse(rows, pl.col("time").is_null(), source, "time", f"must not be empty{hint}")
    _refuse(rows, pl.col("time").to_physical() < 0, source, "time", f"{EARLY}{hint}")
    now = datetime.now(UTC) + SKEW
    _refuse(rows, pl.col("time") > pl.lit(now), source, "time", "lies in the future; check the time unit")


def check_needed(rows: pl.DataFrame, source: str | Origin, hint: str = "") -> None:
    """Raise UserError for a row without an id or a time; `hint` says what to do about it."""
    for column in ("sample_id", "user_id", "item_id", "time"):
        if column in rows.columns:
            _refuse(rows, pl.col(column).is_null(), source, column, f"must not be empty{hint}")


def value_rules(schema: EventSchema) -> Iterator[tuple[str, str, pl.Expr]]:
    """Yield (column, what must hold, where a value breaks it) for the weight, the labels and the sequences."""
    if schema.has_weight:
        weight = pl.col("weight")
        yield "weight", WEIGHT, weight.is_null() | ~weight.is_finite() | (weight < 0)
    for task in schema.tasks:
        name, label = f"label_{task}", pl.col(f"label_{task}")
        rule = schema.rule(task)
        if task in schema.soft:
            yield name, "must be from 0 to 1, or empty", ~label.is_between(0.0, 1.0)
        elif rule is not None:
            low = label < 0 if rule.loss == "log" else pl.lit(False)
            yield name, f"must be {VALUE[rule.loss]}, or empty", ~label.is_finite() | low
        else:
            yield name, "must be 0, 1 or empty", ~label.is_in([0.0, 1.0])
    yield from sequence_faults(schema.sequences)


def check_events(rows: pl.DataFrame, schema: EventSchema, source: str | Origin, hint: str = "") -> None:
    """Raise UserError for null ids or times, impossible times, labels that are none, sequences that are none, duplicate
    sample ids.
    """
    check_needed(rows, source, hint)
    check_times(rows, source, hint)
    for column, rule, broken in value_rules(schema):
        _refuse(rows, broken, source, column, rule)
    check_unique(rows, source)


def check_vectors(rows: pl.DataFrame, widths: dict[str, int], source: str | Origin) -> None:
    """Raise UserError for a vector that has not as many finite numbers as its column in `widths` says."""
    for name, width in widths.items():
        bad = rows.select(pl.arg_where(odd_vector(name, width).fill_null(True))).to_series()
        if len(bad):
            origin = source if isinstance(source, Origin) else Origin(source, pl.int_range(len(rows), eager=True))
            raise origin.refuse(int(bad[0]), name, f"must hold {width} finite numbers or nothing")


def odd_vector(column: str, width: int) -> pl.Expr:
    """Return whether a column of lists holds something that is no vector of `width` finite numbers; null is none."""
    value = pl.col(column)
    finite = value.list.eval(pl.element().is_finite().fill_null(False)).list.all()
    return value.is_not_null() & ((value.list.len() != width) | ~finite)


def check_label_times(rows: pl.DataFrame, tasks: tuple[str, ...], source: str | Origin, window: bool) -> None:
    """Raise UserError for a label of these tasks, with a window a positive one, that has no time when it was known, and
    for a time long before its row's.
    """
    for task in tasks:
        label = pl.col(f"label_{task}")
        given, known = label == 1 if window else label.is_not_null(), pl.col(f"label_time_{task}")
        problem = f"is empty, before 1970 or in the future where '{task}' has a label: say when it was known" + (
            "" if window else ", or set labels.window_s, after which no outcome is a negative"
        )
        _refuse(rows, given & known.is_null(), source, f"label_time_{task}", problem)
        early = "lies more than a day before its row: what a label says was not known then"
        _refuse(rows, known < pl.col("time") - SKEW, source, f"label_time_{task}", early)


def check_behaviors(rows: pl.DataFrame, source: str | Origin) -> None:
    """Raise UserError for empty cells and times in the future."""
    for column in ("user_id", "item_id", "action"):
        _refuse(rows, pl.col(column).is_null(), source, column, "must not be empty")
    check_times(rows, source)


def check_outcomes(rows: pl.DataFrame, tasks: tuple[str, ...], source: str | Origin) -> None:
    """Raise UserError for empty cells, unknown tasks, labels outside {0, 1} and times in the future."""
    for column in ("sample_id", "task", "label"):
        _refuse(rows, pl.col(column).is_null(), source, column, "must not be empty")
    check_times(rows, source)
    _refuse(rows, ~pl.col("task").is_in(tasks), source, "task", f"must be one of {', '.join(tasks)}")
    _refuse(rows, ~pl.col("label").is_in([0.0, 1.0]), source, "label", "must be 0 or 1")


def check_channels(rows: pl.DataFrame, channels: dict[str, int], source: str) -> None:
    """Raise UserError for a row that holds another number of bytes than its channel has."""
    for name, width in channels.items():
        _refuse(rows, pl.col(name).bin.size() != width, source, name, f"must hold {width} bytes or nothing")


def check_logits(rows: pl.DataFrame, tasks: tuple[str, ...], source: str) -> None:
    """Raise UserError for null ids or times, impossible times, null, NaN or infinite logits, and duplicate
    sample ids.
    """
    _refuse(rows, pl.col("sample_id").is_null(), source, "sample_id", "must not be empty")
    check_times(rows, source)
    for task in tasks:
        logit = pl.col(f"logit_{task}")
        _refuse(rows, logit.is_null() | ~logit.is_finite(), source, f"logit_{task}", "must be a finite number")
    check_unique(rows, source)

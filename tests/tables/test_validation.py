"""Values that may not enter a table: refused with source, row and column, and nothing written."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from recdistill.errors import UserError
from recdistill.tables.events import BehaviorLog
from tests.support.tables import SCHEMA, actions, events, followed, ids_of, make_events, make_predictions, predicted

Change = Callable[[pl.DataFrame], pl.DataFrame]


def with_value(column: str, at: int, value: float | None) -> Change:
    """Return the change that puts `value` into row `at` of `column`."""
    return lambda rows: rows.with_columns(
        pl.when(pl.int_range(pl.len()) == at)
        .then(pl.lit(value))
        .otherwise(pl.col(column))
        .cast(rows.schema[column])
        .alias(column)
    )


NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("fault", "change"),
    [
        (
            "row 2, column 'sample_id': a sample id may stand once; got 12 (and 1 more rows)",
            with_value("sample_id", 3, 12),
        ),
        ("row 1, column 'user_id': must not be empty; got None", with_value("user_id", 1, None)),
        ("row 4, column 'item_id': must not be empty; got None", with_value("item_id", 4, None)),
        ("row 0, column 'label_click': must be 0, 1 or empty; got 0.5", with_value("label_click", 0, 0.5)),
        ("row 0, column 'label_click': must be 0, 1 or empty; got nan", with_value("label_click", 0, NAN)),
        (
            "column 'feature_device' has type Float32, the table has Int64",
            lambda rows: rows.with_columns(pl.col("feature_device").cast(pl.Float32)),
        ),
        (
            "column 'feature_devise' is not in the table's schema; did you mean 'feature_device'?",
            lambda rows: rows.rename({"feature_device": "feature_devise"}),
        ),
        (
            "row 0, column 'time': lies in the future; check the time unit",
            lambda rows: rows.with_columns(pl.col("time").dt.offset_by("100y")),
        ),
        (
            "row 0, column 'time': lies in the future; check the time unit; got 9000000000000000000 us since 1970",
            lambda rows: rows.with_columns(time=pl.lit(9 * 10**18).cast(rows.schema["time"])),
        ),
        (
            "row 0, column 'time': lies before 1970; check the time unit; got -9000000000000000000 us since 1970",
            lambda rows: rows.with_columns(time=pl.lit(-9 * 10**18).cast(rows.schema["time"])),
        ),
        ("column 'sample_id': 3 is in the table already", with_value("sample_id", 2, 3)),
    ],
)
def test_events_refuse(tmp_path: Path, fault: str, change: Change) -> None:
    log = make_events(tmp_path / "t", [range(10)])
    bad = change(events(range(10, 15)))
    with pytest.raises(UserError, match="^" + re.escape(f"log.csv: {fault}")):
        log.append(bad, writer="w", sequence=1, source="log.csv")
    assert (log.version, ids_of(log.batches())) == (1, list(range(10)))


def test_an_id_with_another_label_is_refused_across_dates_and_writers(tmp_path: Path) -> None:
    log = make_events(tmp_path / "t", [range(10), range(20, 40)])
    other = events([50, 33, 51], label=0.0).with_columns(pl.col("time").dt.offset_by("30d"))
    with pytest.raises(UserError, match="^rows: column 'sample_id': 33 is in the table with another label$"):
        log.append(other, writer="another", sequence=0)
    assert log.version == 2
    log.append(events([15, 50, 10]), writer="another", sequence=0)  # between known ids, but not known
    assert ids_of(followed(log, 2)) == [15, 50, 10]


@pytest.mark.parametrize(
    ("fault", "change"),
    [
        ("row 1, column 'logit_click': must be a finite number; got nan", with_value("logit_click", 1, NAN)),
        ("row 1, column 'logit_click': must be a finite number; got -inf", with_value("logit_click", 1, -INF)),
        ("row 1, column 'logit_click': must be a finite number; got None", with_value("logit_click", 1, None)),
        (
            "row 2, column 'sample_id': a sample id may stand once; got 12 (and 1 more rows)",
            with_value("sample_id", 3, 12),
        ),
        ("row 4, column 'sample_id': must not be empty; got None", with_value("sample_id", 4, None)),
        (
            "column 'logit_click' has type Float64, the table has Float32",
            lambda rows: rows.cast({"logit_click": pl.Float64}),
        ),
    ],
)
def test_predictions_refuse(tmp_path: Path, fault: str, change: Change) -> None:
    log = make_predictions(tmp_path / "p", [range(10)])
    with pytest.raises(UserError, match="^" + re.escape(f"predictions of teacher: {fault}")):
        log.append(
            change(predicted(range(10, 15))),
            model="teacher",
            version=1,
            kind="prequential",
            writer="teacher",
            sequence=1,
        )
    assert (log.version, log.rows()) == (1, 10)


@pytest.mark.parametrize("column", ["user_id", "item_id", "action"])
def test_behaviors_refuse(tmp_path: Path, column: str) -> None:
    log = BehaviorLog.create(tmp_path / "b", SCHEMA)
    with pytest.raises(UserError, match=f"^log.csv: row 1, column '{column}': must not be empty; got None$"):
        log.append(with_value(column, 1, None)(actions(range(5))), writer="w", sequence=0, source="log.csv")
    assert (log.version, log.rows()) == (0, 0)

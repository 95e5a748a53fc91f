"""What is missing is missing, a label is made of nothing missing, and what cannot be held is refused."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from tests.support.written import log_with, opened, read, refusal

NAN, INF = float("nan"), float("inf")
FORMS = pytest.mark.parametrize("form", ["parquet", "csv"])


@FORMS
def test_a_label_is_never_made_of_a_missing_value(form: str, tmp_path: Path) -> None:
    frame = log_with(y=[1.0, NAN, None, 0.0])
    for spec in ("y", {"column": "y", "at_least": 0.5}, {"column": "y", "equals": 1}, {"column": "y", "equals": "1"}):
        rows = read(frame, tmp_path, form, tasks={"click": spec})
        assert rows["label_click"].to_list() == [1, None, None, 0], spec


@FORMS
def test_labels_by_threshold_are_compared_as_they_are_written(form: str, tmp_path: Path) -> None:
    frame = log_with(y=[0.7, 0.69999999, 16_777_217.0, -1.0])
    rows = read(frame, tmp_path, form, tasks={"a": {"column": "y", "at_least": 0.7}})
    assert rows["label_a"].to_list() == [1, 0, 1, 0]
    rows = read(frame, tmp_path, form, tasks={"a": {"column": "y", "at_least": 16_777_217}})
    assert rows["label_a"].to_list() == [0, 0, 1, 0]


@FORMS
def test_labels_by_value(form: str, tmp_path: Path) -> None:
    frame = log_with(kind=["pv", "buy", "", "buy"], sign=[-1, 1, -1, 1], flag=[True, False, True, False])
    rows = read(frame, tmp_path, form, tasks={
        "buy": {"column": "kind", "equals": "buy"}, "up": {"column": "sign", "equals": 1}, "on": "flag",
    })  # fmt: skip
    assert rows["label_buy"].to_list() == [0, 1, None, 1]
    assert rows["label_up"].to_list() == [0, 1, 0, 1] and rows["label_on"].to_list() == [1, 0, 1, 0]


@pytest.mark.parametrize(
    ("values", "spec", "says"),
    [
        ([-1, 1, -1, 1], "y", ["row 0", "must be 0, 1 or empty", "tasks: {a: {column: y, equals: 1}}", "got -1"]),
        (["listen", "like", "a", "b"], "y", ["row 0, column 'y'", "equals", "got 'listen'"]),
        ([0.0, 0.9999999999, 1.0, 0.0], "y", ["row 1, column 'y': must be 0, 1 or empty", "0.9999999999"]),
        ([0.0, INF, 1.0, 0.0], {"column": "y", "at_least": 1}, ["row 1, column 'y': not a finite number; got inf"]),
        ([0.0, -INF, 1.0, 0.0], "y", ["row 1, column 'y': must be 0, 1 or empty"]),
    ],
)
def test_labels_that_cannot_be(values: list[object], spec: object, says: list[str], tmp_path: Path) -> None:
    refusal(log_with(y=pl.Series(values, strict=False)), tmp_path, says, tasks={"a": spec})


@FORMS
def test_numbers_that_are_missing_or_infinite_are_null_and_counted(form: str, tmp_path: Path) -> None:
    log = opened(log_with(x=[1.5, NAN, INF, -INF]), tmp_path, form, numeric=["x"])
    rows = pl.concat(log.batches())
    assert rows["feature_x"].to_list() == [1.5, None, None, None]
    assert log.notes() == ["'x': 2 infinite values taken as missing"]
    refusal(log_with(x=[0.0, 1e302, 1.0, 2.0]), tmp_path, ["row 1, column 'x': not a number of at most 3.4e38"],
            form, numeric=["x"])  # fmt: skip


@FORMS
def test_empty_categories_are_missing_and_others_are_not(form: str, tmp_path: Path) -> None:
    rows = read(log_with(c=["", "-1", "NA", "0"]), tmp_path, form, categorical=["c"])
    assert [None if one is None else str(one) for one in rows["feature_c"]] == [None, "-1", "NA", "0"]


def test_entries_of_lists_that_stand_for_nothing_are_left_out_and_counted(tmp_path: Path) -> None:
    for values in (["a,,b", "", None, ","], [["a", "", None, "b"], [], None, ["", ""]]):
        log = opened(log_with(t=values), tmp_path, lists={"t": ","})
        assert pl.concat(log.batches())["feature_t"].to_list()[0] == ["a", "b"]
        assert not any(pl.concat(log.batches())["feature_t"].to_list()[1:][k] for k in range(3))
        assert log.notes()[0].startswith("'t': ") and "empty entries of lists left out" in log.notes()[0]


@pytest.mark.parametrize(
    ("values", "kept"),
    [
        (pl.Series([[0.1, 2.0], [3.0, NAN]], dtype=pl.Array(pl.Float32, 2)), [["0.1", "2"], ["3"]]),
        (pl.Series([[12.0], [2.0**60]]), [["12"], [str(2**60)]]),
        (pl.Series([[7, None], [-2**63]]), [["7"], [str(-2**63)]]),
        (pl.Series([["a"], ["b c"]], dtype=pl.List(pl.Categorical)), [["a"], ["b c"]]),
        (pl.Series([12.0, 0.5]), [["12"], ["0.5"]]),
    ],
)  # fmt: skip
def test_lists_of_any_single_type_are_texts(values: pl.Series, kept: list[list[str]], tmp_path: Path) -> None:
    assert read(log_with(2, t=values), tmp_path, lists={"t": ","})["feature_t"].to_list() == kept


def test_nested_columns_are_refused_by_name_and_type(tmp_path: Path) -> None:
    nested = {
        "List(List(Int64))": pl.Series([[[1]]] * 4),
        "List(Struct": pl.Series([[{"id": 1}]] * 4),
        "Struct({": pl.Series([{"id": 1}] * 4),
        "Binary": pl.Series([b"\xff"] * 4),
        "Duration": pl.Series([1] * 4).cast(pl.Duration("us")),
    }
    for kind, values in nested.items():
        for key in ({"lists": {"x": ","}}, {"categorical": ["x"]}, {"numeric": ["x"]}, {"user": "x"}):
            refusal(log_with(x=values), tmp_path, ["column 'x' (data.columns.", f"holds {kind}"], **key)
    refusal(log_with(x=["[1, 2]"] * 4), tmp_path, ["column 'x': a list written as text"], lists={"x": ","})

"""Ids are what was written: the same id is the same user whichever file it stands in, and no two become one."""

from __future__ import annotations

from pathlib import Path
from uuid import UUID

import polars as pl
import pytest

from recdistill.data.readers.columns import Kind, text_of
from tests.support.written import log_with, opened, read, refusal

UUIDS = [str(UUID(int=k)) for k in range(4)]


@pytest.mark.parametrize("form", ["parquet", "csv"])
@pytest.mark.parametrize(
    ("written", "kept"),
    [
        (["007", "7", "07", "7 "], ["007", "7", "07", "7 "]),
        (["Ann", "ann", " ann", "ANN"], ["Ann", "ann", " ann", "ANN"]),
        (UUIDS, UUIDS),
        (["0x1F", "1f", "31", "1e3"], ["0x1F", "1f", "31", "1e3"]),
        (["+5", "5", "-0", "0"], ["+5", "5", "-0", "0"]),
        ([str(10**19 + k) for k in range(4)], [str(10**19 + k) for k in range(4)]),
        (["true", "True", "1", "yes"], ["true", "True", "1", "yes"]),
    ],
)
def test_text_stays_text(written: list[str], kept: list[str], form: str, tmp_path: Path) -> None:
    rows = read(log_with(user_id=written, item_id=written), tmp_path, form, categorical=["user_id"])
    assert rows["user_id"].to_list() == rows["item_id"].to_list() == rows["feature_user_id"].to_list() == kept


@pytest.mark.parametrize(
    "values",
    [
        pl.Series([-5, 0, 3, 2**62], dtype=pl.Int64),
        pl.Series([0, 1, 2, 2**32 - 1], dtype=pl.UInt32),
        pl.Series([-5.0, 0.0, 3.0, 2.0**52], dtype=pl.Float64),
        pl.Series([True, False, True, True]),
    ],
)
@pytest.mark.parametrize("form", ["parquet", "csv"])
def test_whole_numbers_are_whole_numbers(values: pl.Series, form: str, tmp_path: Path) -> None:
    rows = read(log_with(user_id=values), tmp_path, form)
    assert rows["user_id"].dtype == pl.Int64 and rows["user_id"].to_list() == [int(one) for one in values]


@pytest.mark.parametrize(
    "values",
    [
        pl.Series([2**63, 2**64 - 1, 5, 2**63], dtype=pl.UInt64),
        pl.Series([2**100, 2**100 + 1, 5, -1], dtype=pl.Int128),
        pl.Series(["340282366920938463463374607431", "5", "7", "-1"]).cast(pl.Decimal(38, 0)),
    ],
)
@pytest.mark.parametrize("form", ["parquet", "csv"])
def test_numbers_beyond_64_bits_are_kept_as_text(values: pl.Series, form: str, tmp_path: Path) -> None:
    rows = read(log_with(user_id=values, sample=values.unique(maintain_order=True).extend_constant(9, 1)[:4]),
                tmp_path, form)  # fmt: skip
    assert rows["user_id"].to_list() == [str(int(one)) for one in values]


LOGS = {
    "whole": (pl.Series([12, 7, 12, 7]), [12, 7]),
    "text": (pl.Series(["12", "u7", "12", "u7"]), ["12", "u7"]),
}
ACTIONS = {
    "integer": pl.Series([12, 12]),
    "float": pl.Series([12.0, 12.0]),
    "small": pl.Series([12, 12], dtype=pl.Int16),
    "unsigned": pl.Series([12, 12], dtype=pl.UInt64),
    "decimal": pl.Series(["12.00", "12"]).cast(pl.Decimal(10, 2)),
    "text": pl.Series(["12", "12"]),
}


@pytest.mark.parametrize("form", ["parquet", "csv"])
@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("kind", LOGS)
def test_an_id_is_the_same_in_log_and_behaviors(kind: str, action: str, form: str, tmp_path: Path) -> None:
    ids, _ = LOGS[kind]
    values = ACTIONS[action]
    acted = pl.DataFrame({"time": [1_700_000_000] * 2, "user_id": values, "item_id": values})
    log = opened(log_with(user_id=ids, item_id=ids), tmp_path, behaviors=(acted, form))
    found, rows = pl.concat(log.behaviors()), pl.concat(log.batches())
    assert found["user_id"].to_list() == found["item_id"].to_list() == [rows["user_id"][0]] * 2


def test_what_cannot_be_the_same_is_refused_by_name(tmp_path: Path) -> None:
    for values in (["012"], ["u7"], [" 12"]):
        acted = pl.DataFrame({"time": [1_700_000_000], "user_id": values, "item_id": [1]})
        log = opened(log_with(), tmp_path, behaviors=(acted, "parquet"))
        with pytest.raises(
            Exception, match="column 'user_id': not a whole number; .*data.columns.dtypes: {user: text}"
        ):
            list(log.behaviors())
    refusal(log_with(user_id=[1.5, 2.0, 3.0, 4.0]), tmp_path, ["row 0, column 'user_id': not a whole number", "1.5"])
    refusal(log_with(user_id=[2.0**60] * 4), tmp_path, ["column 'user_id': not a whole number"])
    refusal(log_with(user_id=[b"ab"] * 4), tmp_path, ["column 'user_id' (data.columns.user) holds Binary"])
    refusal(log_with(user_id=[float("nan"), 1.0, 2.0, 3.0]), tmp_path, ["row 0, column 'user_id': must not be empty"])
    refusal(log_with(user_id=["", "a", "b", "c"]), tmp_path, ["row 0, column 'user_id': must not be empty"])


def test_dtypes_decides_where_a_text_file_cannot(tmp_path: Path) -> None:
    late = log_with(10_050, user_id=["7"] * 10_049 + ["u7"])
    refusal(late, tmp_path, ["row 10049, column 'user_id'", "set data.columns.dtypes: {user: text}"], "csv")
    for key in ("user", "user_id"):
        rows = read(late, tmp_path, "csv", dtypes={key: "text"})
        assert rows["user_id"][0] == "7" and rows["user_id"][-1] == "u7"
    refusal(log_with(), tmp_path, ["data.columns.dtypes: no id or category 'usr'; did you mean 'user'"],
            dtypes={"usr": "text"})  # fmt: skip


def test_categories_with_fractions_are_text_and_whole_floats_are_whole(tmp_path: Path) -> None:
    frame = log_with(c=[12.0, 0.5, float("nan"), -3.0])
    for form in ("parquet", "csv"):
        assert read(frame, tmp_path, form, categorical=["c"])["feature_c"].to_list() == ["12", "0.5", None, "-3"]


def test_text_of_a_decimal_has_no_zeros_behind() -> None:
    kind = pl.Decimal(10, 2)
    values = pl.Series("x", ["12.00", "100", "3.50", "0.05"]).cast(kind)
    found = values.to_frame().select(text_of(pl.col("x"), Kind(kind, kind))).to_series()
    assert found.to_list() == ["12", "100", "3.5", "0.05"]

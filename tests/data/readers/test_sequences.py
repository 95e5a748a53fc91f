"""Sequences in rows: ids like any other, oldest first, nothing of the row's own time or later; what is left out is
counted, what does not fit is one line.
"""

from __future__ import annotations

from datetime import date, datetime
from pathlib import Path

import polars as pl
import pytest
from pydantic import ValidationError

from recdistill.config.data import BehaviorsConfig, ColumnsConfig, DataConfig
from recdistill.data.readers import sequences
from recdistill.data.readers.factory import open_log
from recdistill.errors import UserError

START = 1_700_000_000
SEQUENCES = {"carts": {"items": "cart", "times": "at"}}


def read(
    folder: Path, form: str = "parquet", given: dict | None = None, **changed: object
) -> tuple[pl.DataFrame, list]:
    """Return the rows of a log of three and the notes."""
    frame = pl.DataFrame(
        {
            "time": [START, START + 60, START + 60],
            "user_id": [1, 1, 2],
            "item_id": [7, 8, 9],
            "label": [0, 1, 0],
            "cart": [[5, 6], [], None],
            "at": [[START - 5, START - 9], [], None],
            **changed,
        }
    )
    if form == "csv":
        joined = [pl.col(name).cast(pl.List(pl.String)).list.join("|") for name in ("cart", "at")]
        frame.with_columns(joined).write_csv(folder / "log.csv")
    else:
        frame.write_parquet(folder / "log.parquet")
    columns = ColumnsConfig.model_validate({"sequences": SEQUENCES if given is None else given})
    log = open_log(DataConfig(path=f"log.{form}", columns=columns), folder)
    return pl.concat(log.batches()), log.notes()


@pytest.mark.parametrize("form", ["parquet", "csv"])
@pytest.mark.parametrize("piece", [1, 2, 100])
def test_entries_come_in_order_of_their_times(
    tmp_path: Path, form: str, piece: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sequences, "PIECE", piece)
    rows, notes = read(tmp_path, form)
    assert rows["sequence_carts"].to_list() == [[6, 5], [], []] and notes == []
    assert [[t.timestamp() for t in times] for times in rows["times_carts"]] == [[START - 9, START - 5], [], []]


def test_without_times_the_order_is_the_lists_own(tmp_path: Path) -> None:
    rows, _ = read(tmp_path, given={"carts": {"items": "cart"}}, cart=[[3, 9, 3], [1], []])
    assert rows["sequence_carts"].to_list() == [[3, 9, 3], [1], []] and "times_carts" not in rows.columns


def test_what_is_empty_or_not_of_before_is_left_out_and_counted(tmp_path: Path) -> None:
    times = [[START - 3, START, START + 5, START - 1], [START + 59, None], [START + 60]]
    rows, notes = read(tmp_path, cart=[[1, 2, 3, None], [4, 5], [6]], at=times)
    assert rows["sequence_carts"].to_list() == [[1], [4], []]
    assert notes == [
        "'cart': 2 empty entries of sequences left out",
        "'at': 3 entries of sequences not before their row left out",
    ]


def test_an_entry_of_a_day_is_before_the_rows_of_the_next_day_alone(tmp_path: Path) -> None:
    days = [[date(2023, 11, 14)], [], [date(2023, 11, 13), date(2023, 11, 14)]]
    at = [datetime(2023, 11, 14, 10), datetime(2023, 11, 14, 10), datetime(2023, 11, 15)]
    rows, notes = read(tmp_path, cart=[[5], [], [6, 7]], at=days, time=at)
    assert rows["sequence_carts"].to_list() == [[], [], [6, 7]]
    assert notes == ["'at': 1 entries of sequences not before their row left out"]


@pytest.mark.parametrize("items", [["a", "007"], ["12", "x"]])
def test_entries_are_ids_as_the_items_are(tmp_path: Path, items: list[str]) -> None:
    rows, _ = read(tmp_path, given={"carts": {"items": "cart"}}, item_id=["a", "b", "c"], cart=[items, [], []])
    assert rows["sequence_carts"].to_list()[0] == items and rows.schema["sequence_carts"] == pl.List(pl.String)


@pytest.mark.parametrize(
    ("changed", "parts"),
    [
        ({"cart": [[1, 2, 3], [], []]}, ["row 0, column 'at'", "a time for each entry of 'cart'; got 2 for 3"]),
        ({"cart": [["1", "007"], [], []]}, ["row 0, column 'cart'", "not a whole number", "got '007'"]),
        ({"cart": ["[1, 2]"] * 3}, ["row 0, column 'cart'", "a list written as text"]),
        ({"cart": [[[1]], [], []]}, ["column 'cart' (data.columns.sequences.carts.items)", "lists of one value each"]),
        ({"at": [["x", "y"], [], []]}, ["row 0, column 'at'", "not a time in s"]),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(tmp_path: Path, changed: dict, parts: list[str]) -> None:
    with pytest.raises(UserError) as refused:
        read(tmp_path, **changed)
    assert all(part in str(refused.value) for part in parts) and "\n" not in str(refused.value)


def test_a_column_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no column 'carts' \(data.columns.sequences.carts.items\).*'cart'"):
        read(tmp_path, given={"carts": {"items": "carts"}})


def test_what_cannot_be_meant_is_refused_in_the_file() -> None:
    for changed in ({"time": None}, {"label_times": {"click": "at"}}):
        with pytest.raises(ValidationError, match="sequences|label time"):
            ColumnsConfig.model_validate({"sequences": SEQUENCES, **changed})
    columns = ColumnsConfig.model_validate({"sequences": {"history": {"items": "cart"}}})
    with pytest.raises(ValidationError, match=r"columns.sequences.history would both be the history"):
        DataConfig(path="log.parquet", columns=columns, behaviors=BehaviorsConfig(path="b.parquet"))

"""A log is the file's rows whatever its form and length; each thing wrong with it is one line: file, row,
column, remedy.
"""

from __future__ import annotations

import os
import re
import stat
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from deltalake import write_deltalake

from recdistill.config.data import BehaviorsConfig, ColumnsConfig, DataConfig, TaskColumn
from recdistill.data.readers.factory import open_log
from recdistill.data.readers.files import CHUNK
from recdistill.data.readers.rows import EventReader
from recdistill.data.readers.scan import scan_file
from recdistill.errors import UserError

START = 1_700_000_000
COLUMNS = ColumnsConfig(sample_id="id", categorical=["device"], numeric=["price"], lists={"tags": "|"})


def table(rows: int = 6, **changed: object) -> pl.DataFrame:
    """Return a small log in order of time; `changed` replaces columns."""
    at = pl.int_range(rows, eager=True)
    frame = pl.DataFrame(
        {
            "id": at + 10,
            "time": START + at * 60,
            "user_id": at % 2,
            "item_id": at,
            "label": at % 2,
            "device": (at % 3).cast(pl.String),
            "price": at * 1.5,
            "tags": ["a|b"] * rows,
        }
    )
    return frame.with_columns(**changed) if changed else frame


def write(frame: pl.DataFrame, folder: Path, form: str = "parquet") -> str:
    """Write `frame` in one of the forms that the reader takes; return the name."""
    if form == "parquet":
        frame.write_parquet(folder / "log.parquet", row_group_size=100_000)
    elif form == "delta":
        write_deltalake(str(folder / "log.delta"), frame.to_arrow(compat_level=pl.CompatLevel.oldest()))
    else:
        frame.write_csv(folder / f"log.{form}", separator="\t" if form == "tsv" else ",")
    return f"log.{form}"


def read(folder: Path, name: str, columns: ColumnsConfig = COLUMNS, **more: object) -> pl.DataFrame:
    return pl.concat(open_log(DataConfig(path=name, columns=columns, **more), folder).batches())


def in_chunks(path: Path, rows: int = 100) -> pl.DataFrame:
    """Return a file's events, read in chunks so small that borders matter."""
    return pl.concat(EventReader(scan_file(path), COLUMNS, rows=rows).chunks())


def refused(folder: Path, name: str, columns: ColumnsConfig = COLUMNS, **more: object) -> str:
    """Return the one line why a log is refused."""
    with pytest.raises(UserError) as caught:
        log = open_log(DataConfig(path=name, columns=columns, **more), folder)
        for _ in log.batches():
            continue
        for _ in log.behaviors() if log.behaviors else ():
            continue
    text = str(caught.value)
    assert "\n" not in text and str(folder) in text
    return text


@pytest.mark.parametrize("form", ["parquet", "csv", "tsv", "delta"])
def test_every_form_gives_the_same_log(form: str, tmp_path: Path) -> None:
    rows = read(tmp_path, write(table(), tmp_path, form))
    assert rows["sample_id"].to_list() == [10, 11, 12, 13, 14, 15]
    assert rows["time"][1] == datetime.fromtimestamp(START + 60, UTC)
    assert rows["user_id"].to_list() == [0, 1] * 3 and rows["user_id"].dtype == pl.Int64
    assert rows["label_click"].to_list() == [0, 1] * 3 and rows["label_click"].dtype == pl.Float32
    assert (
        rows["feature_price"].to_list() == [0, 1.5, 3, 4.5, 6, 7.5]
        and rows["feature_tags"].to_list() == [["a", "b"]] * 6
    )
    assert rows["feature_device"].cast(pl.String).to_list() == ["0", "1", "2"] * 2


@pytest.mark.parametrize("form", ["parquet", "csv"])
def test_chunks_join_to_the_whole_file(form: str, tmp_path: Path) -> None:
    name = write(table(CHUNK + 7), tmp_path, form)
    chunks = list(open_log(DataConfig(path=name), tmp_path).batches())
    assert [len(chunk) for chunk in chunks] == [CHUNK, 7]
    whole = pl.concat(chunks)
    assert (whole["sample_id"] == pl.int_range(len(whole), eager=True)).all()
    assert (whole["item_id"] == pl.int_range(len(whole), eager=True)).all()


def test_sorting_gives_time_order_and_keeps_ties_in_place(tmp_path: Path) -> None:
    frame = table(4, time=pl.Series([START + 5, START, START + 5, START]))
    assert read(tmp_path, write(frame, tmp_path), sort=True)["sample_id"].to_list() == [11, 13, 10, 12]


def test_limit_takes_the_first_rows_in_time(tmp_path: Path) -> None:
    frame = table(4, time=pl.Series([START + 5, START, START + 5, START]))
    assert read(tmp_path, write(frame, tmp_path), sort=True, limit=3)["sample_id"].to_list() == [11, 13, 10]


@pytest.mark.parametrize(
    ("values", "unit"),
    [
        ([START, START + 1], "s"),
        ([START * 1000, START * 1000 + 1000], "ms"),
        ([START * 10**6, (START + 1) * 10**6], "us"),
        ([START + 0.0, START + 1.0], "s"),
        (["2023-11-14T22:13:20Z", "2023-11-14 22:13:21.000"], "iso"),
        (["2023-11-14T23:13:20+01:00", "2023-11-14T22:13:21Z"], "iso"),
        (["11/14/2023 10:13:20 PM", "11/14/2023 10:13:21 PM"], "%m/%d/%Y %I:%M:%S %p"),
        ([datetime(2023, 11, 14, 22, 13, 20), datetime(2023, 11, 14, 22, 13, 21)], "s"),
    ],
)
@pytest.mark.parametrize("form", ["parquet", "csv"])
def test_time_units(values: list[object], unit: str, form: str, tmp_path: Path) -> None:
    if form == "csv" and isinstance(values[0], datetime):
        unit = "iso"
    name = write(table(2, time=pl.Series(values)), tmp_path, form)
    rows = read(tmp_path, name, ColumnsConfig(time_unit=unit))
    assert rows["time"].to_list() == [datetime.fromtimestamp(START + k, UTC) for k in (0, 1)]


def test_labels_by_threshold_by_constant_and_unknown(tmp_path: Path) -> None:
    tasks = {"long": TaskColumn(column="price", at_least=3), "chosen": 1, "click": "label"}
    name = write(table(4, label=pl.Series([1, None, 0, 1])), tmp_path)
    rows = read(tmp_path, name, ColumnsConfig(tasks=tasks))
    assert rows["label_long"].to_list() == [0, 0, 1, 1] and rows["label_chosen"].to_list() == [1] * 4
    assert rows["label_click"].to_list() == [1, None, 0, 1]


@pytest.mark.parametrize("form", ["parquet", "csv"])
@pytest.mark.parametrize(
    ("column", "at", "value", "message"),
    [
        (
            "time",
            3,
            START - 1,
            "row 3, column 'time': earlier than the row before; sort the file or set data.sort: true",
        ),
        ("time", 5, START * 2, "row 5, column 'time': lies in the future; check the time unit"),
        ("time", 5, START * 1000, "row 5, column 'time': not a time in s since 1970; set columns.time_unit to s, ms"),
        ("time", 2, None, "row 2, column 'time': must not be empty"),
        ("user_id", 1, None, "row 1, column 'user_id': must not be empty"),
        (
            "label",
            4,
            2,
            "row 4, column 'label': must be 0, 1 or empty; say what a positive is, as tasks: ",
        ),
        ("id", 5, 10, "column 'id': a sample id may stand once"),
    ],
)
def test_a_wrong_value(column: str, at: int, value: object, message: str, form: str, tmp_path: Path) -> None:
    frame = table()
    values = frame[column].to_list()
    values[at] = value
    assert message in refused(tmp_path, write(frame.with_columns(pl.Series(column, values)), tmp_path, form))


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("label", "yes", "column 'label': must be 0, 1 or empty; say what a positive is"),
        ("price", "cheap", "column 'price': not a number of at most 3.4e38; got 'cheap'"),
        ("time", "2023-11-14", "column 'time': not a time in s since 1970; set columns.time_unit"),
        (
            "user_id",
            "u7",
            "column 'user_id': not a whole number; where they are text, or begin with zeros, set data.columns.dtypes",
        ),
        ("id", "10.5", "column 'id': not a whole number; where they are text"),
    ],
)
def test_a_value_of_the_wrong_type_in_the_second_chunk(column: str, value: str, message: str, tmp_path: Path) -> None:
    frame = table(10_200).cast({column: pl.String})
    at = 10_150
    frame = frame.with_columns(
        pl.when(pl.int_range(pl.len()) == at).then(pl.lit(value)).otherwise(column).alias(column)
    )
    with pytest.raises(UserError, match=re.escape(f"row {at}, {message}")):
        in_chunks(tmp_path / write(frame, tmp_path, "csv"))


def test_columns_of_the_wrong_type(tmp_path: Path) -> None:
    name = write(table(time=pl.Series([True] * 6)), tmp_path)
    assert "column 'time': not a number or text, but Boolean, which is no time" in refused(tmp_path, name)
    assert "'price' (data.columns.numeric: price) holds List" in refused(
        tmp_path, write(table(price=pl.Series([["a"]] * 6)), tmp_path)
    )


@pytest.mark.parametrize("at", [1, 99, 100, 101, 250])
def test_order_is_checked_across_chunks(at: int, tmp_path: Path) -> None:
    time = np.arange(300) + START
    time[at] = time[at - 1] - 1
    with pytest.raises(UserError, match=f"row {at}, column 'time': earlier than the row before"):
        in_chunks(tmp_path / write(table(300, time=pl.Series(time)), tmp_path))


@pytest.mark.parametrize("shuffled", [False, True])
@pytest.mark.parametrize("form", ["parquet", "csv"])
@pytest.mark.parametrize("at", [1, 100, 298])
def test_ids_are_unique_across_chunks(shuffled: bool, form: str, at: int, tmp_path: Path) -> None:
    ids = np.random.default_rng(0).permutation(301) if shuffled else np.arange(301)
    path = tmp_path / write(table(301, id=pl.Series(ids)), tmp_path, form)
    assert (in_chunks(path)["sample_id"].to_numpy() == ids).all()
    ids[300] = ids[at]  # the only row of the last chunk
    write(table(301, id=pl.Series(ids)), tmp_path, form)
    with pytest.raises(UserError, match=r"row \d+, column 'id': a sample id may stand once"):
        in_chunks(path)


def test_sorted_rows_keep_the_numbers_they_have_in_the_file(tmp_path: Path) -> None:
    frame = table(4, time=pl.Series([START + 5, START, START + 6, START + 7]), label=pl.Series([0, 7, 0, 0]))
    assert "row 1, column 'label'" in refused(tmp_path, write(frame, tmp_path), sort=True)


@pytest.mark.parametrize("rows", [0, 1])
def test_short_files(rows: int, tmp_path: Path) -> None:
    log = open_log(DataConfig(path=write(table(rows), tmp_path), columns=COLUMNS), tmp_path)
    assert sum(len(chunk) for chunk in log.batches()) == rows


@pytest.mark.parametrize("name", ["log.parquet", "log.csv"])
def test_an_empty_file(name: str, tmp_path: Path) -> None:
    (tmp_path / name).touch()
    assert refused(tmp_path, name).endswith(f"{name}: the file is empty")


def test_a_missing_file_and_a_missing_column(tmp_path: Path) -> None:
    assert "no such file; check data.path and --data" in refused(tmp_path, "none.parquet")
    assert "no such file; a log is read from a path of this machine" in refused(tmp_path, "s3://bucket/log.parquet")
    name = write(table(), tmp_path)
    wrong = ColumnsConfig(numeric=["pricee"])
    assert "no column 'pricee' (data.columns.numeric: pricee); did you mean 'price'?" in refused(tmp_path, name, wrong)
    wrong = ColumnsConfig(tasks={"click": "lable"})
    assert "no column 'lable' (data.columns.tasks.click); did you mean 'label'?" in refused(tmp_path, name, wrong)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
@pytest.mark.parametrize("form", ["parquet", "csv"])
def test_no_permission(form: str, tmp_path: Path) -> None:
    name = write(table(), tmp_path, form)
    (tmp_path / name).chmod(stat.S_IWUSR)
    assert refused(tmp_path, name).endswith("no permission to read it")


def test_truncated_and_garbled_parquet(tmp_path: Path) -> None:
    name = write(table(5000), tmp_path)
    path = tmp_path / name
    whole = path.read_bytes()
    for keep in (4, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:keep])
        assert "cannot be read as a table, damaged" in refused(tmp_path, name)
    path.write_text("time,user_id\n1,2\n")
    assert "cannot be read as a table, damaged" in refused(tmp_path, name)


def test_flipped_bits_are_refused_or_harmless(tmp_path: Path) -> None:
    name = write(table(500), tmp_path)
    path = tmp_path / name
    whole = path.read_bytes()
    draw = np.random.default_rng(1)
    caught = 0
    for _ in range(80):
        at, bit = int(draw.integers(len(whole))), int(draw.integers(8))
        path.write_bytes(whole[:at] + bytes([whole[at] ^ (1 << bit)]) + whole[at + 1 :])
        try:
            read(tmp_path, name)
        except UserError as error:
            assert "\n" not in str(error) and str(path) in str(error)
            caught += 1
    assert caught > 15


def test_text_that_is_no_table(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("id,time,user_id,item_id,label,device,price,tags\n1,2\n1,2,3,4,5,6,7,8,9\n")
    assert "cannot be read as a table" in refused(tmp_path, "log.csv")


def test_behaviors_are_put_in_order(tmp_path: Path) -> None:
    actions = pl.DataFrame(
        {"at": [START + 9, START, START + 5], "user_id": [1, 1, None], "item_id": [7, 8, 9], "kind": ["a", "b", "c"]}
    )
    actions.write_parquet(tmp_path / "actions.parquet")
    given = BehaviorsConfig(path="actions.parquet", time="at", action="kind")
    log = open_log(DataConfig(path=write(table(), tmp_path), columns=COLUMNS, behaviors=given), tmp_path)
    assert pl.concat(log.behaviors())["item_id"].to_list() == [8, 7]
    actions.with_columns(at=pl.Series([START * 2] * 3)).write_parquet(tmp_path / "actions.parquet")
    assert "column 'at': lies in the future" in refused(tmp_path, "log.parquet", behaviors=given)
    wrong = BehaviorsConfig(path="actions.parquet", time="at", action="knd")
    assert "no column 'knd' (data.behaviors.action); did you mean 'kind'?" in refused(
        tmp_path, "log.parquet", behaviors=wrong
    )


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"options": {"rows": 1}}, "the table has no 'rows'"),
        ({"keep_rates": {"clik": (1.0, 0.5)}}, "no task 'clik'; did you mean 'click'?"),
        ({"reader": "simulator", "sort": True}, "data.sort: belongs to reader: table"),
        ({"reader": "simulator", "options": {"row": 1}}, "no 'row'; did you mean 'rows'?"),
        ({"reader": "simulator", "options": {"rows": "many"}}, "data.options.rows: input should be a valid integer"),
    ],
)
def test_settings_that_fit_nothing(config: dict[str, object], message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        open_log(DataConfig(path=write(table(), tmp_path), **config), tmp_path)
    assert message in str(caught.value)

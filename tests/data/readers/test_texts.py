"""Text in columns: names from the first row or the experiment file, any separator, and never a row of values lost."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from recdistill.config.data import BehaviorsConfig, ColumnsConfig, DataConfig, TextLayout
from recdistill.data.readers.factory import open_log
from recdistill.data.readers.scan import scan_file
from recdistill.errors import UserError
from tests.data.readers.test_tabular import COLUMNS, START, read, refused, table

NAMES = table().columns
TAOBAO = ColumnsConfig(user="u", item="i", time="at", tasks={"buy": {"column": "what", "equals": "buy"}})


def taobao(folder: Path, rows: int = 8, name: str = "log.csv") -> None:
    """Write rows of user, item, category, what was done, and when; no names."""
    kinds = ["pv", "buy", "cart", "fav"]
    text = "".join(f"{k % 3},{2268318 + k},2520377,{kinds[k % 4]},{START + k}\n" for k in range(rows))
    (folder / name).write_text(text)


@pytest.mark.parametrize("separator", [",", "\t", ";", "|", "\x01"])
@pytest.mark.parametrize("name", ["log.csv", "log.tsv", "u.data", "train.txt", "part-00000"])
def test_a_file_without_names_is_the_same_log(separator: str, name: str, tmp_path: Path) -> None:
    rows = table(tags=pl.Series(["a|b"] * 6))
    rows.write_csv(tmp_path / "named.csv")
    rows.write_csv(tmp_path / name, separator=separator, include_header=False)
    found = read(tmp_path, name, header=NAMES, separator=separator)
    assert found.equals(read(tmp_path, "named.csv"))


def test_files_of_a_folder_have_one_header(tmp_path: Path) -> None:
    table()[:3].write_csv(tmp_path / "part-1.csv", include_header=False)
    table()[3:].write_csv(tmp_path / "part-2.csv", include_header=False)
    assert read(tmp_path, "*.csv", header=NAMES)["sample_id"].to_list() == [10, 11, 12, 13, 14, 15]
    table()[3:].drop("tags").write_csv(tmp_path / "part-2.csv", include_header=False)
    assert "part-2.csv: header names 8 columns, the first row has 7" in refused(tmp_path, "*.csv", header=NAMES)


def test_behaviors_have_a_layout_of_their_own(tmp_path: Path) -> None:
    table().write_csv(tmp_path / "log.csv")
    taobao(tmp_path, name="actions.csv")
    keys = {"user": "u", "item": "i", "time": "at", "action": "what"}
    given = BehaviorsConfig(path="actions.csv", header=["u", "i", "c", "what", "at"], **keys)
    log = open_log(DataConfig(path="log.csv", columns=COLUMNS, behaviors=given), tmp_path)
    assert pl.concat(log.behaviors())["action"].to_list() == ["pv", "buy", "cart", "fav"] * 2
    nameless = BehaviorsConfig(path="actions.csv", **keys)
    assert "actions.csv: the first row is taken for names" in refused(tmp_path, "log.csv", behaviors=nameless)


def test_the_text_of_an_action_is_a_label(tmp_path: Path) -> None:
    taobao(tmp_path)
    found = read(tmp_path, "log.csv", TAOBAO, header=["u", "i", "c", "what", "at"])
    assert found["label_buy"].to_list() == [0, 1, 0, 0] * 2
    assert found["item_id"][0] == 2268318


@pytest.mark.parametrize(
    "row",
    ["0,2268318,2520377,pv,1511544070", "1,,,,0.5,68fd1e64", "0,0,0,", "7,B00,2024-01-01 10:00:00,1", "0", "1.5e3,2"],
)
def test_a_first_row_of_values_is_refused_and_the_key_is_named(row: str, tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text(f"{row}\n{row}\n")
    text = refused(tmp_path, "log.csv")
    assert "log.csv: the first row is taken for names, but holds values" in text
    assert "header: [user_id, item_id, ...]" in text


@pytest.mark.parametrize(
    "row",
    [
        "id,time,user_id,item_id,label,device,price,tags",
        ",time,user_id,item_id,label,2023,2024",
        "item_id," + ",".join(map(str, range(64))),
        ",".join(map(str, range(1, 9))),
    ],
)
def test_names_that_look_a_little_like_values_pass(row: str, tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text(f"{row}\n" + ",".join("1" for _ in row.split(",")) + "\n")
    assert len(next(scan_file(tmp_path / "log.csv").chunks([row.split(",")[-1]]))) == 1


def test_names_where_header_is_given_are_no_row(tmp_path: Path) -> None:
    table().write_csv(tmp_path / "log.csv")
    wrong = ["a", *NAMES[1:]]
    assert "the first row holds names ('time'); leave out header" in refused(tmp_path, "log.csv", header=wrong)


@pytest.mark.parametrize("form", ["parquet", "jsonl"])
def test_a_layout_is_for_text_alone(form: str, tmp_path: Path) -> None:
    rows = table()
    rows.write_parquet(tmp_path / "log.parquet")
    rows.write_ndjson(tmp_path / "log.jsonl")
    assert f"this is {form}, leave them out" in refused(tmp_path, f"log.{form}", separator=";")
    with pytest.raises(UserError, match="data.header: belongs to reader: table"):
        open_log(DataConfig(reader="simulator", header=["a"]), tmp_path)


def test_a_missing_column_names_the_key_that_would_help(tmp_path: Path) -> None:
    table().write_csv(tmp_path / "log.csv", separator=";")
    assert "set separator: ';' next to the file's path" in refused(tmp_path, "log.csv")
    (tmp_path / "log.csv").write_text("u1,i1,buy,2024-01-01 10:00:00\nu2,i2,buy,2024-01-01 10:00:01\n")
    assert "if the first row holds values, not names" in refused(tmp_path, "log.csv")


@pytest.mark.parametrize(
    ("layout", "fault"),
    [
        ({"header": ["a", "b", "a"]}, "names 'a' twice"),
        ({"separator": "é"}, "characters of ASCII"),
        ({"separator": ""}, "characters of ASCII"),
        ({"separator": '"'}, "characters of ASCII"),
        ({"separator": ":\n"}, "characters of ASCII"),
    ],
)
def test_layouts_that_no_file_has(layout: dict[str, object], fault: str) -> None:
    with pytest.raises(ValidationError, match=fault):
        TextLayout(**layout)


CELL = st.text(
    st.characters(codec="ascii", exclude_characters='"\r\n\x00', categories=["L", "N", "P", "S"]), max_size=5
)


@given(
    rows=st.lists(st.lists(CELL, min_size=3, max_size=3), min_size=1, max_size=5), separator=st.sampled_from(",\t;|")
)
@settings(max_examples=30, deadline=None)
def test_every_cell_is_what_was_written(
    rows: list[list[str]], separator: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    rows = [["first", "row", "text"], *rows]  # whatever stands there, no row is taken for names
    path = tmp_path_factory.mktemp("text") / "log.csv"
    frame = pl.DataFrame(rows, schema=["a", "b", "c"], orient="row")
    frame.write_csv(path, separator=separator, include_header=False)
    found = pl.concat(scan_file(path, TextLayout(header=["a", "b", "c"], separator=separator)).chunks(["a", "b", "c"]))
    assert [[cell or "" for cell in row] for row in found.select("a", "b", "c").rows()] == rows


@pytest.mark.parametrize("key", ["label", "device", "price"])
def test_true_and_false_that_turn_into_other_text_are_named_with_their_row(key: str, tmp_path: Path) -> None:
    rows = table(11_000, tags=pl.Series(["a"] * 11_000))
    values = ["True", "False"] * 5_400 + ["maybe"] * 200
    rows.with_columns(pl.Series(key, values)).write_csv(tmp_path / "log.csv")
    text = refused(tmp_path, "log.csv")
    assert f"log.csv: row 10800, column '{key}': " in text and text.endswith("got 'maybe'")
    if key == "device":
        assert "dtypes: {device: text}" in text
        as_text = COLUMNS.model_copy(update={"dtypes": {"device": "text"}})
        assert read(tmp_path, "log.csv", as_text)["feature_device"].unique().sort().to_list() == [
            "False",
            "True",
            "maybe",
        ]

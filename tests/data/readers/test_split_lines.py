"""Text parted by several characters is what it would be parted by one, and an uneven line is refused by its number."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recdistill.config.data import ColumnsConfig, TaskColumn
from recdistill.config.load import load_text
from recdistill.data.peek.guess import peek_text
from recdistill.data.readers.scan import scan_file
from recdistill.data.readers.split_lines import first_split, scan_split
from tests.data.readers.test_tabular import read, refused

CELLS = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"], exclude_characters=':,"'), max_size=5)
RATINGS = "1::1193::5::978300760\n1::661::3::978302109\n2::1193::4::978302110\n"
NAMES = ["userId", "movieId", "rating", "timestamp"]
COLUMNS = ColumnsConfig(
    user="userId", item="movieId", time="timestamp", tasks={"like": TaskColumn(column="rating", at_least=4)}
)


@settings(max_examples=50, deadline=None)
@given(rows=st.lists(st.tuples(st.integers(), CELLS, CELLS), min_size=1), named=st.booleans())
def test_it_is_what_one_character_gives(
    rows: list[tuple[int, str, str]], named: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder, names = tmp_path_factory.mktemp("split"), ["number", "b", "c"]
    for separator, name in (("::", "many.txt"), (",", "one.csv")):
        lines = [names, *rows] if named else rows
        text = "".join(separator.join(map(str, line)) + "\n" for line in lines)
        (folder / name).write_text(text, encoding="utf-8", newline="\n")
    text_alone = dict.fromkeys(names, pl.String())
    many = scan_split(folder / "many.txt", "::", [] if named else names, 10, text_alone).collect()
    one = pl.read_csv(folder / "one.csv", has_header=named, new_columns=names, infer_schema=False, quote_char=None)
    assert many.equals(one.with_columns(pl.when(pl.all() != "").then(pl.all())))
    assert first_split(folder / "many.txt", "::")[0] == ("number" if named else str(rows[0][0]))


def test_movielens_1m_through_a_table(tmp_path: Path) -> None:
    (tmp_path / "ratings.dat").write_text(RATINGS)
    found = read(tmp_path, "ratings.dat", COLUMNS, header=NAMES, separator="::")
    assert found["item_id"].to_list() == [1193, 661, 1193] and found["label_like"].to_list() == [1, 0, 1]
    assert found.schema["user_id"] == pl.Int64 and found["time"][0].year == 2000
    (tmp_path / "ratings.dat").write_text("::".join(NAMES) + "\n" + RATINGS)
    assert read(tmp_path, "ratings.dat", COLUMNS, separator="::").equals(found)
    config = load_text("name: x\ndata: {path: ratings.dat, separator: '::'}").data
    assert scan_file(tmp_path / "ratings.dat", config).frame.collect_schema().names() == NAMES


@pytest.mark.parametrize(("line", "cells"), [("2::661::3", 3), ("2::661::3::978302111::x", 5), ("", 1)])
def test_an_uneven_line_is_refused_by_its_number(line: str, cells: int, tmp_path: Path) -> None:
    (tmp_path / "ratings.dat").write_text(RATINGS + line + "\n" + RATINGS)
    text = refused(tmp_path, "ratings.dat", COLUMNS, header=NAMES, separator="::")
    assert f"ratings.dat: row 3 has {cells} columns, not 4; separator is '::'" in text and "\n" not in text


def test_peek_finds_it(tmp_path: Path) -> None:
    (tmp_path / "ratings.dat").write_text(RATINGS * 20)
    draft = load_text(peek_text(tmp_path / "ratings.dat"))
    assert draft.data.separator == "::" and len(draft.data.header) == 4

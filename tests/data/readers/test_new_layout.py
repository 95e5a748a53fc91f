"""New rows as text: laid out as the run's log was, with its labels or without, or with names."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from recdistill.config.data import DataConfig
from recdistill.config.load import load_text
from recdistill.data.readers.new_layout import layout_of_new
from recdistill.errors import UserError
from tests.data.readers.test_lacking import MODELS
from tests.support.commands import typed

NAMES = ["user", "item", "at", "buy", "bought_at", "device"]
COLUMNS = "{user: user, item: item, time: at, tasks: {buy: buy}, label_times: {buy: bought_at}, categorical: [device]}"
LAID_OUT = f"separator: ';', header: [{', '.join(NAMES)}]"


def log() -> DataConfig:
    return load_text(f"name: x\ndata: {{path: log.txt, {LAID_OUT}, columns: {COLUMNS}}}").data


@pytest.mark.parametrize(
    ("name", "text", "separator", "header"),
    [
        ("new.txt", "1;2;3;1;4;a\n", ";", NAMES),
        ("new.txt", "1;2;3;a\n", ";", ["user", "item", "at", "device"]),
        ("new.txt", "user;item;at;device\n1;2;3;a\n", ";", []),
        ("new.csv", "user,item,at,device\n1,2,3,a\n", ",", []),
        ("new.csv", "1,2,3,a\n", ",", ["user", "item", "at", "device"]),
    ],
)
def test_the_first_row_shows_it(name: str, text: str, separator: str, header: list[str], tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    found = layout_of_new(tmp_path / name, log())
    assert (found.separator, found.header) == (separator, header)


def test_another_number_of_columns_is_refused(tmp_path: Path) -> None:
    (tmp_path / "new.txt").write_text("1;2;3\n")
    with pytest.raises(UserError, match=r"new.txt: the first row has 3 columns; .* have 6 or 4 \(without labels\)"):
        layout_of_new(tmp_path / "new.txt", log())


def test_other_files_say_themselves_how_they_are_laid_out(tmp_path: Path) -> None:
    pl.DataFrame({"user": [1]}).write_parquet(tmp_path / "new.parquet")
    assert not layout_of_new(tmp_path / "new.parquet", log()).given
    (tmp_path / "new.csv").write_text("1,2\n")
    assert not layout_of_new(tmp_path / "new.csv", DataConfig(path="log.csv")).given


def test_a_run_of_text_without_names_predicts_such_rows(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    rows = [(draw.integers(9), draw.integers(5), 1_700_000_000 + k, draw.integers(2), "ab"[k % 2]) for k in range(300)]
    (tmp_path / "log.txt").write_text("".join("::".join(map(str, row)) + "\n" for row in rows))
    data = "path: log.txt, separator: '::', header: [user, item, at, buy, device]"
    columns = COLUMNS.replace(" label_times: {buy: bought_at},", "")
    (tmp_path / "x.yaml").write_text(f"name: x\ndata: {{{data}, columns: {columns}}}{MODELS}")
    code, printed = typed("run", tmp_path / "x.yaml", "--data", tmp_path, "--out", tmp_path / "run")
    assert code == 0, printed
    (tmp_path / "new.txt").write_text(
        "".join(f"{user}::{item}::{at}::{device}\n" for user, item, at, _, device in rows)
    )
    named = pl.DataFrame(rows, schema=["user", "item", "at", "buy", "device"], orient="row").drop("buy")
    named.write_parquet(tmp_path / "new.parquet")
    for new in ("new.txt", "log.txt", "new.parquet"):
        out = tmp_path / f"{new}.csv"
        code, printed = typed("predict", tmp_path / "run", "light", "--data", tmp_path / new, "--out", out)
        assert code == 0, printed
    found = [pl.read_csv(tmp_path / f"{new}.csv") for new in ("new.txt", "log.txt", "new.parquet")]
    assert len(found[0]) == 300 and found[0].equals(found[1]) and found[0].equals(found[2])

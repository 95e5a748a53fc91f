"""Frames to one file, whole or not at all."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest

from recdistill.data.writer import write_frames
from recdistill.errors import UserError

FRAMES = [pl.DataFrame({"sample_id": [k, k + 1], "logit_click": [0.5, -1.0]}) for k in (0, 2, 4)]


@pytest.mark.parametrize("name", ["out.parquet", "out.csv"])
def test_chunks_become_one_table(tmp_path: Path, name: str) -> None:
    assert write_frames(tmp_path / name, iter(FRAMES)) == 6
    read = pl.read_parquet if name.endswith("parquet") else pl.read_csv
    assert read(tmp_path / name).equals(pl.concat(FRAMES))
    assert [path.name for path in tmp_path.iterdir()] == [name]


def failing() -> Iterator[pl.DataFrame]:
    yield FRAMES[0]
    raise UserError("row 7 is wrong")


@pytest.mark.parametrize(
    ("path", "frames", "problem"),
    [
        ("out.parquet", failing(), "row 7 is wrong"),
        ("out.parquet", iter([]), "no rows"),
        ("out.xlsx", iter(FRAMES), "name a .parquet or a .csv file"),
        ("nowhere/out.csv", iter(FRAMES), "no such folder"),
    ],
)
def test_nothing_is_left_of_what_failed(
    tmp_path: Path, path: str, frames: Iterator[pl.DataFrame], problem: str
) -> None:
    with pytest.raises(UserError, match=problem):
        write_frames(tmp_path / path, frames)
    assert not list(tmp_path.iterdir())


def test_an_older_file_stays_when_the_new_one_fails(tmp_path: Path) -> None:
    write_frames(tmp_path / "out.csv", iter(FRAMES[:1]))
    before = (tmp_path / "out.csv").read_bytes()
    with pytest.raises(UserError):
        write_frames(tmp_path / "out.csv", failing())
    assert (tmp_path / "out.csv").read_bytes() == before

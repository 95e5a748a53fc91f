"""A bounded number of rows, in the log's order, from wherever the files can be entered."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
from deltalake import write_deltalake

from recdistill.data.peek import sample
from recdistill.data.peek.sample import sample_of
from recdistill.data.readers.scan import scan_file
from recdistill.errors import UserError


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look at few rows."""
    for name, value in {"HEAD": 10, "SLICES": 3, "SLICE": 2}.items():
        monkeypatch.setattr(sample, name, value)


def places(path: Path) -> tuple[list[int], int | None, str]:
    found = sample_of(scan_file(path))
    return found.rows["at"].to_list(), found.total, found.looked


def test_parquet_in_one_file_or_several_and_delta(tmp_path: Path) -> None:
    rows = pl.DataFrame({"at": range(100)})
    spread = [*range(10), 10, 11, 54, 55, 98, 99]
    looked = "the first 10 of 100 rows, and 6 spread over the others"
    rows.write_parquet(tmp_path / "log.parquet", row_group_size=7)
    assert places(tmp_path / "log.parquet") == (spread, 100, looked)
    (tmp_path / "parts").mkdir()
    for k, part in enumerate(rows.iter_slices(11)):
        part.write_parquet(tmp_path / "parts" / f"part-{k}.parquet")
    assert places(tmp_path / "parts") == (spread, 100, looked)
    write_deltalake(str(tmp_path / "delta"), rows.to_arrow())
    assert places(tmp_path / "delta") == (spread, 100, looked)
    rows.head(16).write_parquet(tmp_path / "few.parquet")
    assert places(tmp_path / "few.parquet") == (list(range(16)), 16, "all 16 rows")


def test_text_shows_its_first_rows_and_those_of_other_files(tmp_path: Path) -> None:
    rows = pl.DataFrame({"at": range(100)})
    rows.write_csv(tmp_path / "log.csv")
    assert places(tmp_path / "log.csv") == ([str(k) for k in range(10)], None, "the first 10 rows")
    rows.head(10).write_ndjson(tmp_path / "few.jsonl")
    assert places(tmp_path / "few.jsonl") == ([str(k) for k in range(10)], 10, "all 10 rows")
    (tmp_path / "parts").mkdir()
    for k, part in enumerate(rows.iter_slices(20)):
        part.write_csv(tmp_path / "parts" / f"part-{k}.csv")
    found, total, looked = places(tmp_path / "parts")
    assert found == [str(k) for k in (*range(10), 20, 21, 60, 61)] and total is None
    assert looked == "the first 10 rows, and the first 2 of 2 other files"


def test_a_damaged_page_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "log.parquet"
    pl.DataFrame({"at": range(100)}).write_parquet(path, compression="zstd", row_group_size=50)
    content = bytearray(path.read_bytes())
    content[20:60] = b"\xff" * 40
    path.write_bytes(content)
    with pytest.raises(UserError, match="log.parquet: cannot be read as a table"):
        sample_of(scan_file(path))

"""How files are read in pieces, and how one that is damaged is refused."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from polars.exceptions import PanicException

from recdistill.data.readers import files
from recdistill.data.readers.scan import scan_file
from recdistill.errors import UserError


def test_a_page_other_than_its_checksum_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "log.parquet"
    pq.write_table(pa.table({"a": range(5_000)}), path, write_page_checksum=True, use_dictionary=False)
    whole = path.read_bytes()
    path.write_bytes(whole[:3_000] + bytes([whole[3_000] ^ 1]) + whole[3_001:])
    with pytest.raises(UserError, match="log.parquet: cannot be read as a table, .*CRC"):
        list(scan_file(path).chunks(["a"]))
    path.write_bytes(whole)
    assert [len(chunk) for chunk in scan_file(path).chunks(["a"], rows=3_000)] == [3_000, 2_000]


class Panicking:
    def collect(self) -> pl.DataFrame:
        os.write(2, b"thread 'reader' panicked at decode.rs:418\n")
        raise PanicException("assertion failed")


class Warns:
    def collect(self) -> pl.DataFrame:
        os.write(2, b"a warning\n")
        return pl.DataFrame({"a": [1]})


def test_a_panic_prints_nothing_and_a_warning_is_kept(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(PanicException, match="assertion failed"):
        files.quietly(Panicking())  # type: ignore[arg-type]
    assert len(files.quietly(Warns())) == 1  # type: ignore[arg-type]
    os.write(2, b"and on\n")
    assert capfd.readouterr().err == "a warning\nand on\n"


def test_slices_are_cut_by_the_scan_itself_and_numbered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, plans, quietly = tmp_path / "log.parquet", list[str](), files.quietly

    def watched(query: pl.LazyFrame) -> pl.DataFrame:
        plans.append(query.explain())
        return quietly(query)

    monkeypatch.setattr(files, "quietly", watched)
    pl.DataFrame({"a": range(1_000), "b": range(1_000)}).write_parquet(path, row_group_size=100)
    source = scan_file(path)
    assert source.frame.collect_schema().names() == ["a", "b"]  # once it knows its types, polars plans otherwise
    chunks = list(source.chunks(["b"], rows=300))
    assert [chunk.rows()[0] for chunk in chunks] == [(0, 0), (300, 300), (600, 600), (900, 900)]
    slices = [plan for plan in plans if "SLICE" in plan]
    assert len(slices) == 4
    assert not [plan for plan in slices if plan.startswith("SLICE")]  # of all rows up to there, read again for each


PEAK = """
import sys, threading
from pathlib import Path
from recdistill.data.readers.scan import scan_file

def anonymous():
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("RssAnon:")).split()[1]) * 1024

start, peak, stop = anonymous(), [0], threading.Event()
def watch():
    while not stop.wait(0.005):
        peak[0] = max(peak[0], anonymous() - start)
thread = threading.Thread(target=watch)
thread.start()
rows = sum(len(chunk) for chunk in scan_file(Path(sys.argv[1])).chunks(["text"], rows=16_384))
stop.set()
thread.join()
print(rows, peak[0])
"""


def test_memory_does_not_follow_the_size_of_a_csv_file(tmp_path: Path) -> None:
    path, size = tmp_path / "log.csv", 160_000_000
    with path.open("w", encoding="ascii") as file:
        file.write("number,text\n")
        for at in range(0, size // 1_000, 1_000):
            file.write("".join(f"{at + k},{'x' * 990}\n" for k in range(1_000)))
    found = subprocess.run([sys.executable, "-c", PEAK, str(path)], capture_output=True, text=True, check=True)
    rows, peak = map(int, found.stdout.split())
    assert rows == size // 1_000
    assert peak < size  # the engine's own sizes: all of it, and some of it decoded


@pytest.mark.parametrize("name", ["log.csv", "log.jsonl"])
def test_a_row_may_be_longer_than_what_is_read_at_a_time(tmp_path: Path, name: str) -> None:
    values = ["a", "b" * 3_000_000, "c\nd", "e" * 1_500_000]
    frame = pl.DataFrame({"n": range(4), "text": values})
    frame.write_csv(tmp_path / name) if name.endswith("csv") else frame.write_ndjson(tmp_path / name)
    chunks = list(scan_file(tmp_path / name).chunks(["text"], rows=3))
    assert [len(chunk) for chunk in chunks] == [3, 1]
    assert pl.concat(chunks)["text"].to_list() == values


def test_a_column_called_as_the_number_of_a_row_is_refused(tmp_path: Path) -> None:
    """It was taken for that number, or a traceback."""
    pl.DataFrame({files.ROW: [5, 6], "a": [1, 2]}).write_parquet(tmp_path / "log.parquet")
    with pytest.raises(UserError, match="log.parquet: a column is called .*, which no column of a log can be; rename"):
        scan_file(tmp_path / "log.parquet")

"""What a library writes when it panics over a damaged file is not shown; everything else is."""

from __future__ import annotations

import os
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

"""What a library writes when it panics over a damaged file is not shown; everything else is."""

from __future__ import annotations

import os

import polars as pl
import pytest
from polars.exceptions import PanicException

from recdistill.data.readers import files


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
        files._quietly(Panicking())  # type: ignore[arg-type]
    assert len(files._quietly(Warns())) == 1  # type: ignore[arg-type]
    os.write(2, b"and on\n")
    assert capfd.readouterr().err == "a warning\nand on\n"

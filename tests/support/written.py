"""Logs as files of any kind, and what a reader makes of them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import polars as pl
import pytest

from recdistill.config.data import BehaviorsConfig, ColumnsConfig, DataConfig
from recdistill.data.readers.base import Log
from recdistill.data.readers.factory import open_log
from recdistill.errors import UserError

__all__ = ["START", "log_with", "opened", "read", "refusal", "write"]

START = 1_700_000_000


def log_with(rows: int = 4, **columns: object) -> pl.DataFrame:
    """Return a log in order of time; `columns` replaces or adds."""
    at = pl.int_range(rows, eager=True)
    plain = {"time": START + at * 60, "user_id": at % 2, "item_id": at, "label": at % 2}
    return pl.DataFrame({name: columns.get(name, values) for name, values in plain.items()} | columns)


def write(frame: pl.DataFrame, folder: Path, form: str, name: str = "log") -> str:
    """Write a table as Parquet or CSV; return the file's name."""
    path = folder / f"{name}.{form}"
    frame.write_parquet(path) if form == "parquet" else frame.write_csv(path)
    return path.name


def opened(
    frame: pl.DataFrame, folder: Path, form: str = "parquet", behaviors: tuple[pl.DataFrame, str] | None = None,
    more: dict[str, object] | None = None, **columns: object,
) -> Log:  # fmt: skip
    """Return the log of a table and of behaviors (table, form); keys of data.columns, `more` of data."""
    given = None
    if behaviors is not None:
        given = BehaviorsConfig(path=write(*behaviors[:1], folder, behaviors[1], "actions"))
    mapping = ColumnsConfig.model_validate(columns)
    config = DataConfig(path=write(frame, folder, form), columns=mapping, behaviors=given, **(more or {}))
    return open_log(config, folder)


def read(frame: pl.DataFrame, folder: Path, form: str = "parquet", **keys: object) -> pl.DataFrame:
    """Return the events of a table."""
    return pl.concat(opened(frame, folder, form, **keys).batches())


def refusal(frame: pl.DataFrame, folder: Path, parts: Sequence[str], form: str = "parquet", **keys: object) -> None:
    """Check that a table is refused in one line of these parts, which shows no name of ours."""
    with pytest.raises(UserError) as caught:
        read(frame, folder, form, **keys)
    line = str(caught.value)
    assert "\n" not in line and not re.search("label_time_|user_id_|feature_", line)
    for part in parts:
        assert part in line, line

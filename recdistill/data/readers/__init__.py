"""Readers: from tables as their publishers or users have them to the log's own columns."""

from __future__ import annotations

from pathlib import Path

from recdistill.config import DataConfig
from recdistill.data.readers.log import Log
from recdistill.data.readers.tabular import read_table

__all__ = ["Log", "open_log"]


def open_log(config: DataConfig, data: Path | None) -> Log:
    """Return the log that `config` describes; paths are relative to `data`."""
    return read_table(config, data)

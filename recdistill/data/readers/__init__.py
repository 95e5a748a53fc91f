"""Readers: from tables as their publishers or users have them to the log's own columns."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import polars as pl

from recdistill.config import DataConfig
from recdistill.data.readers.log import Log
from recdistill.data.readers.tabular import read_table
from recdistill.data.simulate import SIMULATED, Simulator, SimulatorConfig
from recdistill.errors import UserError, did_you_mean

__all__ = ["Log", "open_log"]


def open_log(config: DataConfig, data: Path | None) -> Log:
    """Return the log that `config` describes; paths are relative to `data`."""
    return _simulated(config) if config.reader == "simulator" else read_table(config, data)


def _simulated(config: DataConfig) -> Log:
    known = {field.name for field in fields(SimulatorConfig)}
    for name in config.options:
        if name not in known:
            raise UserError(f"data.options: the simulator has no '{name}'{did_you_mean(name, known)}")
    options: dict[str, Any] = dict(config.options)
    simulated = SimulatorConfig(**options)

    def batches() -> Iterator[pl.DataFrame]:
        for chunk in Simulator(simulated).chunks():
            yield chunk.select(list(SIMULATED.columns()))

    return Log(SIMULATED, batches, None, "simulator")

"""The page about other engines: its DuckDB example gives the log-loss of every model of a run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from recdistill.tables.predictions import PredictionLog
from tests.support.paths import ROOT
from tests.support.programs import needs
from tests.support.runs import finish, tiny
from tests.test_docs import snippets


@needs("duckdb")
def test_duckdb_reads_the_tables_of_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    finish(Path("runs/mine"), tiny(), "teacher")
    (code,) = snippets(ROOT / "docs" / "howto" / "on-a-cluster.md", "python", sketches=True)
    exec(code, {})
    events = pl.scan_delta("runs/mine/tables/events").collect()
    rows = pl.concat(PredictionLog.open(Path("runs/mine/predictions")).of("teacher")).join(events, on="sample_id")
    sign = 2 * rows["label_click"].to_numpy().astype(np.float64) - 1
    logloss = np.logaddexp(0, -sign * rows["logit_click"].to_numpy().astype(np.float64)).mean()
    shown = capsys.readouterr().out
    assert "teacher" in shown and f"{len(rows)}" in shown and f"{logloss:.6f}"[:7] in shown

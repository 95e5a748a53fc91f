"""Signals meet their samples by id and by nothing else: logit = f(id), whatever is shuffled, missing or cut apart."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recdistill.tables import join
from recdistill.tables.join import join_signals
from recdistill.tables.predictions import PredictionLog
from tests.support.tables import events, logit, make_predictions, said

IDS = 40


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> PredictionLog:
    """The teacher spoke about every id not divisible by 7, shuffled within four commits; a stranger about all."""
    log = make_predictions(
        tmp_path_factory.mktemp("join") / "p",
        [
            [k for k in sorted(range(IDS), key=lambda k: (k // 12, k * 5 % 12)) if k // 12 == commit and k % 7]
            for commit in range(4)
        ],
    )
    wrong = said(range(IDS)).with_columns(pl.lit(99.0, pl.Float32).alias("logit_click"))
    log.append(wrong, model="stranger", version=1, kind="prequential", writer="s", sequence=0)
    return log


def truth(batch: pl.DataFrame) -> pl.DataFrame:
    known = pl.col("sample_id") % 7 != 0
    return batch.with_columns(logit(batch["sample_id"])).with_columns(
        pl.when(known).then(pl.col("logit_click")).alias("logit_click")
    )


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    groups=st.lists(st.lists(st.integers(0, IDS + 20), max_size=25), max_size=4), kept=st.sampled_from([1, 4_000_000])
)
def test_logits_go_to_their_ids(log: PredictionLog, groups: list[list[int]], kept: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(join, "KEPT", kept)
        batches = [events(ids).select("sample_id", "time", "device") for ids in groups]
        known = truth(events(range(IDS))).select("sample_id", "logit_click")
        for batch, joined in zip(batches, join_signals(batches, log, "teacher"), strict=True):
            assert joined.equals(batch.join(known, on="sample_id", how="left", maintain_order="left"))


def test_a_run_in_order_is_joined_as_a_whole(log: PredictionLog) -> None:
    batch = events(range(1, 7))
    assert next(join_signals([batch], log, "teacher")).equals(truth(batch))
    silent = next(join_signals([batch], log, "nobody"))
    assert silent["logit_click"].null_count() == 6 and silent.schema["logit_click"] == pl.Float32


def test_the_newest_commit_counts_and_a_version_pins(tmp_path: Path) -> None:
    log = make_predictions(tmp_path / "p")
    for version, shift in ((1, 0.0), (2, 100.0)):
        rows = said(range(20)).with_columns(pl.col("logit_click") + pl.lit(shift, pl.Float32))
        log.append(rows, model="m", version=version, kind="imported", writer="w", sequence=version)
    for compacted in (False, True):
        if compacted:
            log.compact()
        newest = next(join_signals([events(range(20))], log, "m"))["logit_click"]
        assert newest.equals(logit(pl.Series(range(20))) + 100)
        pinned = next(join_signals([events(range(20))], log, "m", version=1))["logit_click"]
        assert pinned.equals(logit(pl.Series(range(20))))


def test_memory_is_that_of_a_batch(log: PredictionLog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(join, "KEPT", 10)
    opened: list[str] = []
    read = join.read_parts

    def counted(table: Path, parts: list[join.Part], columns: list[str], rows: None) -> Iterator[pl.DataFrame]:
        opened.extend(part.path for part in parts)
        return read(table, parts, columns, rows)

    monkeypatch.setattr(join, "read_parts", counted)
    said_by = join._Said(log, "teacher", None)
    for at in range(0, IDS, 5):
        said_by.about(events(range(at, at + 5)))
        assert sum(len(ids) for ids, _ in said_by.kept.values()) <= 12  # KEPT, or one file
    assert len(opened) == len(set(opened)) == len(said_by.parts)  # in order: each file once

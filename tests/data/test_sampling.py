"""Keep rates are kept and multiply, however the log is cut."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recdistill.config.data import DataConfig, SamplingConfig
from recdistill.config.experiment import Experiment
from recdistill.data.readers.down_sampling import down_sampled
from recdistill.data.sampling import INGEST_SEED, kept, rates_per_task, uniform
from recdistill.runs.batch_ingest import ingest, open_tables
from recdistill.runs.folder import RunFolder
from tests.support.logs import log_of, whole


def test_keep_rates_within_binomial_noise_and_multiplied() -> None:
    n = 100_000
    label = np.resize([1.0, 0.0, 0.0, np.nan], n)
    log = down_sampled(
        log_of(np.arange(n), np.zeros(n, int), np.zeros(n, int), label), SamplingConfig(positive=0.8, negative=0.1)
    )
    assert log.schema.keep_rates == {"click": (0.4, 0.1)}
    counts = Counter(whole(log)["label_click"].fill_nan(None).to_list())
    for value, total, rate in ((1.0, n / 4, 0.8), (0.0, n / 2, 0.1), (None, n / 4, 1.0)):
        assert abs(counts[value] - total * rate) <= 4 * np.sqrt(total * rate * (1 - rate))


@given(st.lists(st.integers(0, 300), max_size=4).map(sorted), st.integers(0, 300))
def test_what_is_kept_does_not_depend_on_the_cuts(cuts: list[int], n: int) -> None:
    label = np.arange(n) % 2
    one, many = (
        log_of(np.arange(n), np.zeros(n, int), np.zeros(n, int), label, c) for c in ((), tuple(min(c, n) for c in cuts))
    )
    half = SamplingConfig(positive=0.9, negative=0.5)
    assert whole(down_sampled(one, half)).equals(whole(down_sampled(many, half)))


def test_what_sampling_by_one_task_keeps_of_another_is_counted() -> None:
    draw = np.random.default_rng(0)
    first = draw.integers(0, 2, 200_000).astype(np.float32)
    labels = np.stack(
        [first, first * (draw.random(len(first)) < 0.3), draw.integers(0, 2, len(first)), np.full(len(first), np.nan)],
        1,
    )
    sampling = SamplingConfig(positive=0.9, negative=0.2)
    keep = kept(np.arange(len(labels)), labels[:, 0], sampling, 0)
    found = rates_per_task(labels, sampling)
    assert found[0] == (0.9, 0.2) and found[3] == (1.0, 1.0)
    for task in (1, 2):
        for value, rate in zip((1, 0), found[task], strict=True):
            assert rate == pytest.approx(keep[labels[:, task] == value].mean(), abs=0.01)


def test_the_table_says_what_was_kept(tmp_path: Path) -> None:
    at = np.arange(3000)
    pl.DataFrame({"time": at, "user_id": at % 9, "item_id": at, "label": at % 2}).write_parquet(
        tmp_path / "log.parquet"
    )
    config = DataConfig(path="log.parquet", keep_rates={"click": (1.0, 0.5)}, sampling=SamplingConfig(negative=0.2))
    folder = RunFolder(tmp_path / "run")
    assert 1700 < ingest(folder, Experiment(name="kept", data=config), tmp_path, lambda rows: None, print) < 1900
    assert open_tables(folder)[0].schema.keep_rates == {"click": (1.0, 0.1)}


def test_uniform_is_flat_and_seeds_are_independent() -> None:
    one, two = uniform(np.arange(50_000), 1), uniform(np.arange(50_000), 2)
    assert np.abs(np.histogram(one, 20, (0, 1))[0] - 2500).max() < 5 * 50
    assert abs(np.corrcoef(one, two)[0, 1]) < 0.02


def test_what_a_model_keeps_does_not_depend_on_what_the_log_kept() -> None:
    ids, label, half = np.arange(100_000), np.zeros(100_000), SamplingConfig(negative=0.5)
    logged = kept(ids, label, half, INGEST_SEED)
    for seed in range(5):
        assert abs(kept(ids[logged], label[logged], half, seed).mean() - 0.5) < 0.01

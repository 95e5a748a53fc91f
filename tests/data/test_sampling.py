"""Keep rates are kept and multiply; negatives come from the window just before, never what the user chose,
however cut.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from recdistill.config.data import DataConfig, NegativesConfig, SamplingConfig
from recdistill.config.experiment import Experiment
from recdistill.data.readers.base import Log
from recdistill.data.readers.down_sampling import down_sampled
from recdistill.data.readers.negatives import TRIES, with_negatives
from recdistill.data.sampling import INGEST_SEED, kept, rates_per_task, uniform
from recdistill.errors import UserError
from recdistill.runs.batch_ingest import ingest, open_tables
from recdistill.runs.folder import RunFolder
from recdistill.tables.schema import EventSchema

SCHEMA = EventSchema(("click", "buy"), {"device": "int64", "topic": "int64"}, keep_rates={"click": (0.5, 1.0)})
HOUR = 3_600_000_000
EVENT = st.tuples(st.integers(0, 9), st.integers(0, 3), st.integers(0, 12))  # tenths of an hour, user, item


def log_of(time: np.ndarray, user: np.ndarray, item: np.ndarray, label: np.ndarray, cuts: tuple[int, ...] = ()) -> Log:
    """Return a log of these rows, cut into chunks before the rows `cuts`; topic and device tell item and row."""
    n = len(time)
    rows = pl.DataFrame(
        {
            "sample_id": np.arange(n),
            "time": pl.Series(time, dtype=pl.Int64).cast(pl.Datetime("us", "UTC")),
            "user_id": user,
            "item_id": item,
            "device": np.arange(n),
            "topic": item * 7,
            "label_click": label,
            "label_buy": np.ones(n),
        },
        schema=SCHEMA.columns(),
        strict=False,
    )

    def batches() -> Iterator[pl.DataFrame]:
        for low, high in zip((0, *cuts), (*cuts, n), strict=True):
            if high > low:
                yield rows[low:high]

    return Log(SCHEMA, batches, None, "here", ("topic",))


def positives(events: list[tuple[int, int, int]], cuts: tuple[int, ...] = ()) -> Log:
    time, user, item = np.array(sorted(events, key=lambda e: e[0]), np.int64).reshape(-1, 3).T
    return log_of(time * HOUR // 10, user, item, np.ones(len(time)), cuts)


def whole(log: Log) -> pl.DataFrame:
    return pl.concat([pl.DataFrame(schema=log.schema.columns()), *log.batches()])


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
    assert 1700 < ingest(folder, Experiment(name="kept", data=config), tmp_path, lambda rows: None) < 1900
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


@settings(max_examples=40)
@given(st.lists(EVENT, max_size=40), st.integers(1, 3), st.floats(0.1, 1.0), st.integers(0, 3))
def test_negatives_are_of_the_window_and_never_the_users_own(
    events: list[tuple[int, int, int]], per: int, hours: float, seed: int
) -> None:
    log = positives(events)
    rows = whole(with_negatives(log, NegativesConfig(per_positive=per, window_hours=hours, seed=seed)))
    real = rows.filter(pl.col("label_click") == 1)
    assert real.drop("request_id").equals(whole(log)) and real["request_id"].to_list() == list(range(len(real)))
    assert rows["sample_id"].is_unique().all() and rows["time"].is_sorted() and rows["request_id"].is_sorted()
    table = [(t.timestamp() * 1e6, u, i) for t, u, i in real.select("time", "user_id", "item_id").rows()]
    for request in rows.partition_by("request_id"):
        items = request["item_id"].to_list()
        assert len(set(items)) == len(items) <= 1 + per and request["label_click"].to_list() == [1] + [0] * (
            len(items) - 1
        )
        time, user = request["time"][0].timestamp() * 1e6, request["user_id"][0]
        window = {i for t, _, i in table if time - int(hours * HOUR) <= t < time}
        chosen = {i for t, u, i in table if u == user and t <= time}
        assert set(items[1:]) <= window - chosen
        assert request["device"].n_unique() == request["user_id"].n_unique() == request["time"].n_unique() == 1
        assert request["topic"].to_list() == [item * 7 for item in items] and request["label_buy"].equals(
            request["label_click"]
        )
        assert (request["sample_id"][1:] < 0).all()
        if len(window - chosen) > per + 6 and TRIES > 10:
            assert len(items) > 1


@settings(max_examples=40)
@given(st.lists(EVENT, max_size=40), st.lists(st.integers(0, 40), max_size=5).map(sorted))
@example([(k // 20, k % 3, k * k % 11) for k in range(60)], list(range(60)))  # instants cut in the middle
def test_negatives_do_not_depend_on_the_cuts(events: list[tuple[int, int, int]], cuts: list[int]) -> None:
    config = NegativesConfig(per_positive=2, window_hours=0.5)
    one, many = (positives(events, c) for c in ((), tuple(min(c, len(events)) for c in cuts)))
    assert whole(with_negatives(one, config)).equals(whole(with_negatives(many, config)))


def test_negatives_do_not_look_ahead() -> None:
    past = [(k % 10, k % 4, k % 13) for k in range(60)]
    config = NegativesConfig(per_positive=2)
    known = whole(with_negatives(positives(past), config))
    more = whole(with_negatives(positives(past + [(10 + k % 5, k % 4, k % 13) for k in range(60)]), config))
    assert more.head(len(known)).equals(known)


def test_negatives_are_drawn_in_proportion() -> None:
    crowd = np.repeat([0, 1, 2], [600, 300, 100])
    n, asked = len(crowd), 4000
    time = np.r_[np.arange(n), np.full(asked, n)]
    log = log_of(
        time, np.r_[np.arange(n) + asked, np.arange(asked)], np.r_[crowd, np.full(asked, 9)], np.ones(n + asked)
    )
    drawn = whole(with_negatives(log, NegativesConfig(per_positive=1))).filter(
        pl.col("user_id") < asked, pl.col("label_click") == 0
    )
    counts = Counter(drawn["item_id"].to_list())
    for item, share in ((0, 0.6), (1, 0.3), (2, 0.1)):
        assert abs(counts[item] - asked * share) < 4 * np.sqrt(asked * share * (1 - share))


def test_seeds_draw_differently() -> None:
    log = positives([(k // 10, k, k % 13) for k in range(100)])
    one, two = (whole(with_negatives(log, NegativesConfig(seed=seed)))["item_id"].to_list() for seed in (0, 1))
    assert one != two


def test_text_ids_and_histories_of_positives_alone() -> None:
    log = positives([(0, 0, 1), (1, 1, 2), (2, 0, 3)])
    columns = ("sample_id", "time", pl.col("user_id", "item_id").cast(pl.String), "label_click")
    text = Log(
        EventSchema(("click",), {}, "string", "string"),
        lambda: (c.select(columns) for c in log.batches()),
        None,
        "here",
    )
    made = with_negatives(text, NegativesConfig(per_positive=2))
    assert whole(made)["item_id"].to_list() == ["1", "2", "1", "3", "2"]
    assert made.behaviors is not None and pl.concat(made.behaviors())["item_id"].to_list() == ["1", "2", "3"]


def test_what_cannot_be_given_negatives() -> None:
    mixed = log_of(np.arange(4), np.zeros(4, int), np.arange(4), np.array([1, 1, 0, 1]))
    with pytest.raises(
        UserError, match="data.negatives needs a log of positives with ids from 0; sample 2 has label 0"
    ):
        whole(with_negatives(mixed, NegativesConfig()))
    with pytest.raises(UserError, match="no feature 'topics'; did you mean 'topic'?"):
        with_negatives(mixed, NegativesConfig(item_features=["topics"]))

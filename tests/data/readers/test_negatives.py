"""Negatives come from the window just before, never what the user chose, however the log is cut."""

from __future__ import annotations

from collections import Counter

import numpy as np
import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from recdistill.config.data import NegativesConfig
from recdistill.data.readers.base import Log
from recdistill.data.readers.negatives import TRIES, with_negatives
from recdistill.errors import UserError
from recdistill.tables.schema import EventSchema
from tests.support.logs import HOUR, log_of, positives, whole

EVENT = st.tuples(st.integers(0, 9), st.integers(0, 3), st.integers(0, 12))  # tenths of an hour, user, item


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

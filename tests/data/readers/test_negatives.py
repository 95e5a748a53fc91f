"""Negatives and positives come from the window just before, however the log is cut, and what is left out is counted."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress

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
POOL, ALL = ("pool", "all")
NOTHING, CHOSEN = ("nothing", "chosen")


def made(log: Log, config: NegativesConfig) -> pl.DataFrame:
    """Return all rows of the log with negatives, also where they are refused in the end because they are too few."""
    full = with_negatives(log, config)
    chunks = [pl.DataFrame(schema=full.schema.columns())]
    with suppress(UserError):
        chunks.extend(full.batches())
    rows = pl.concat(chunks)
    if len(rows) and config.positives == ALL:
        assert (rows["label_click"].mean() <= 0.5) == accepted(log, config)
    return rows


def accepted(log: Log, config: NegativesConfig) -> bool:
    """Return whether the log with negatives can be read to its end."""
    try:
        whole(with_negatives(log, config))
    except UserError as error:
        assert "data.negatives: " in str(error)
        return False
    return True


@settings(max_examples=80)
@given(
    st.lists(EVENT, max_size=40),
    st.integers(1, 3),
    st.floats(0.1, 1.0),
    st.integers(0, 3),
    st.sampled_from([POOL, ALL]),
    st.sampled_from([NOTHING, CHOSEN]),
)
def test_lists_are_made_of_the_window(
    events: list[tuple[int, int, int]], per: int, hours: float, seed: int, which: str, exclude: str
) -> None:
    log = positives(events)
    config = NegativesConfig(per_positive=per, window_hours=hours, seed=seed, positives=which, exclude=exclude)
    rows, given_ = made(log, config), whole(log)
    assert rows["sample_id"].is_unique().all() and rows["time"].is_sorted() and rows["request_id"].is_sorted()
    table = [(t.timestamp() * 1e6, u, i) for t, u, i in given_.select("time", "user_id", "item_id").rows()]
    lists = {request["request_id"][0]: request for request in rows.partition_by("request_id")}
    for number, (time, user, own) in enumerate(table):
        window = [(u, i) for t, u, i in table if time - int(hours * HOUR) <= t < time]
        chosen = {i for t, u, i in table if u == user and t <= time} if exclude == CHOSEN else {own}
        possible, by_others = {i for _, i in window} - chosen, {i for u, i in window if u != user}
        request = lists.get(number)
        if which == POOL and (own not in by_others or len(possible) < per):
            assert request is None
            continue
        if request is None:  # TRIES draws did not fill the list
            assert which == POOL and len(window) > per
            continue
        real = request.filter(pl.col("label_click") == 1)
        assert real.drop("request_id").equals(given_[number : number + 1])
        negatives = request.filter(pl.col("label_click") == 0)["item_id"].to_list()
        assert len(set(negatives)) == len(negatives) and set(negatives) <= possible
        assert len(negatives) == per if which == POOL else len(negatives) <= per
        assert request["feature_device"].n_unique() == request["user_id"].n_unique() == request["time"].n_unique() == 1
        assert request["feature_topic"].to_list() == [item * 7 for item in request["item_id"]]
        assert request["label_buy"].equals(request["label_click"])
        assert ((request["sample_id"] < 0) == (request["label_click"] == 0)).all()
        if len(possible) > per + 6 and TRIES > 10:
            assert negatives


@settings(max_examples=40)
@given(st.lists(EVENT, max_size=40), st.lists(st.integers(0, 40), max_size=5).map(sorted))
@example([(k // 20, k % 3, k * k % 11) for k in range(60)], list(range(60)))  # instants cut in the middle
def test_negatives_do_not_depend_on_the_cuts(events: list[tuple[int, int, int]], cuts: list[int]) -> None:
    one, many = (positives(events, c) for c in ((), tuple(min(c, len(events)) for c in cuts)))
    for which, exclude in ((POOL, NOTHING), (ALL, CHOSEN)):
        config = NegativesConfig(per_positive=2, window_hours=0.5, positives=which, exclude=exclude)
        assert made(one, config).equals(made(many, config))


def test_negatives_do_not_look_ahead() -> None:
    past = [(k % 10, k % 4, k % 13) for k in range(60)]
    config = NegativesConfig(per_positive=2)
    known = whole(with_negatives(positives(past), config))
    assert len(known) > 90
    more = whole(with_negatives(positives(past + [(10 + k % 5, k % 4, k % 13) for k in range(60)]), config))
    assert more.head(len(known)).equals(known)


def test_negatives_are_drawn_in_proportion() -> None:
    crowd = np.repeat([0, 1, 2], [600, 300, 100])
    n, asked = len(crowd), 4000
    time = np.r_[np.arange(n), np.full(asked, n)]
    log = log_of(
        time, np.r_[np.arange(n) + asked, np.arange(asked)], np.r_[crowd, np.full(asked, 9)], np.ones(n + asked)
    )
    drawn = made(log, NegativesConfig(per_positive=1, positives=ALL)).filter(
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
    config = NegativesConfig(per_positive=2, positives=ALL, exclude=CHOSEN)
    full = with_negatives(text, config)
    assert made(text, config).select("request_id", "item_id").sort("request_id", "item_id")["item_id"].to_list() == [
        "1",
        "1",
        "2",
        "2",
        "3",
    ]
    assert full.behaviors is not None and pl.concat(full.behaviors())["item_id"].to_list() == ["1", "2", "3"]


def test_the_positive_stands_anywhere() -> None:
    log = positives([(k // 40, k % 40, k * k % 7) for k in range(1_500)])
    rows = whole(with_negatives(log, NegativesConfig(per_positive=3)))
    places = rows.with_columns(place=pl.int_range(pl.len()).over("request_id")).filter(label_click=1)["place"]
    counts = np.bincount(places, minlength=4)
    assert abs(counts - len(places) / 4).max() < 4 * np.sqrt(len(places) * 3 / 16)


def test_what_is_left_out_is_counted() -> None:
    """User 0 is first with item 1 and alone with item 3; user 1's list has one other item where two are asked for."""
    events = [(0, 0, 1), (0, 0, 2), (1, 1, 1), (2, 0, 3), (3, 2, 1), (3, 2, 3), (4, 0, 3)]
    log = with_negatives(positives(events), NegativesConfig(per_positive=2))
    assert log.notes() == []
    assert whole(log)["request_id"].unique().to_list() == [4, 5, 6]
    assert [line.partition(" that")[0] for line in log.notes()] == ["negatives: 3 of 7 positives left out"]
    assert ", 1 more whose list could not be filled" in log.notes()[0]
    whole(log)
    assert log.notes()[0].startswith("negatives: 3 of 7 ")  # of this reading alone
    kept = with_negatives(positives(events), NegativesConfig(per_positive=2, positives=ALL))
    assert len(set(whole(kept)["request_id"])) == 7
    assert kept.notes()[0].startswith("negatives: 5 of 14 places stayed empty, around 3 of 7 positives: ")


def test_nothing_that_remains_is_an_error() -> None:
    with pytest.raises(UserError, match="not one of 3 positives remains: 3 that nobody else chose .* positives: all"):
        whole(with_negatives(positives([(0, 0, 1), (1, 1, 2), (2, 0, 3)]), NegativesConfig()))


def test_what_cannot_be_given_negatives() -> None:
    mixed = log_of(np.arange(4), np.zeros(4, int), np.arange(4), np.array([1, 1, 0, 1]))
    with pytest.raises(
        UserError, match="data.negatives needs a log of positives with ids from 0; sample 2 has label 0"
    ):
        whole(with_negatives(mixed, NegativesConfig()))
    with pytest.raises(UserError, match="no feature 'topics'; did you mean 'topic'?"):
        with_negatives(mixed, NegativesConfig(item_features=["topics"]))


def daily(items: int) -> Log:
    """Return one choice per user and day, all at midnight, over 30 days."""
    events = [(240 * (k // 20), k % 20, (k * k + k // 20) % items) for k in range(600)]
    return positives(events, tuple(range(20, 600, 20)))  # a chunk a day


@pytest.mark.parametrize("which", [POOL, ALL])
def test_times_that_are_days_name_the_window_that_would_do(which: str) -> None:
    short = NegativesConfig(per_positive=2, positives=which)
    with pytest.raises(UserError, match="seldom hold another moment; set window_hours: 24$"):
        whole(with_negatives(daily(9), short))
    enough = with_negatives(daily(9), short.model_copy(update={"window_hours": 24}))
    assert whole(enough)["label_click"].mean() < 0.5


def test_a_heavy_user_who_chose_everything_is_refused_by_the_key_that_does_it() -> None:
    log = positives([(k, 0, k % 12) for k in range(200)])
    with pytest.raises(UserError, match=": 0 negatives for 200 positives, less than one each; .* exclude: nothing$"):
        whole(with_negatives(log, NegativesConfig(positives=ALL, exclude=CHOSEN)))
    assert accepted(log, NegativesConfig(positives=ALL))


def test_one_moment_alone_has_no_window_that_would_do() -> None:
    with pytest.raises(UserError, match="all positives have the same time"):
        whole(with_negatives(positives([(0, k, k) for k in range(9)]), NegativesConfig()))

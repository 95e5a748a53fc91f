"""Negatives and positives come from the window just before, however the log is cut, and what is left out is counted."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from recdistill.config.data import NegativesConfig
from recdistill.data.readers import negatives
from recdistill.data.readers.base import Log
from recdistill.data.readers.negatives import TRIES, with_negatives
from recdistill.errors import UserError
from recdistill.tables.schema import EventSchema
from tests.support.logs import HOUR, log_of, positives, whole

EVENT = st.tuples(st.integers(0, 9), st.integers(0, 3), st.integers(0, 12))  # tenths of an hour, user, item
POOL, ALL = ("pool", "all")
NOTHING, CHOSEN = ("nothing", "chosen")
DRAWS: list[dict[str, Any]] = [
    {"window_hours": 0.5},
    {"draw": "uniform"},
    {"draw": "popularity", "power": 0.5},
    {"draw": "batch", "rows": 20},
]


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(negatives, "BLOCK", 7)


def chances(draw: dict[str, Any], past: list[tuple[float, int, int]], now: float) -> tuple[dict[int, float], set[int]]:
    """Return (q of each item that a draw at `now` may give, the places of `past` that it is drawn from), one by one."""
    before = [k for k, (t, _, _) in enumerate(past) if t < now]
    if draw.get("draw") == "batch":
        from_, counts = before[-draw["rows"] :], Counter(past[k][2] for k in before)
    else:
        from_ = [k for k in before if past[k][0] >= now - int(draw.get("window_hours", 1e6) * HOUR)]
        counts = Counter(past[k][2] for k in from_)
    power = {"uniform": 0.0, "popularity": draw.get("power", 0.75)}.get(draw.get("draw", ""), 1.0)
    weights = {item: count**power for item, count in counts.items()}
    return {item: weight / sum(weights.values()) for item, weight in weights.items()}, set(from_)


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
    st.sampled_from([*DRAWS, {"window_hours": 0.1}, {"window_hours": 0.73}, {"draw": "batch", "rows": 3}]),
    st.integers(0, 3),
    st.sampled_from([POOL, ALL]),
    st.sampled_from([NOTHING, CHOSEN]),
)
@example([(0, 0, 1), (0, 0, 2), (1, 1, 3), (1, 2, 3)], 1, {"draw": "uniform"}, 0, POOL, NOTHING)  # new to all at once
@example([(0, 0, 1), (0, 0, 2), (1, 1, 2), (2, 0, 1)], 1, {"draw": "popularity"}, 0, POOL, NOTHING)  # 1 by itself
def test_lists_are_made_of_what_is_drawn_from(
    events: list[tuple[int, int, int]], per: int, draw: dict[str, Any], seed: int, which: str, exclude: str
) -> None:
    log = positives(events)
    config = NegativesConfig(per_positive=per, **draw, seed=seed, positives=which, exclude=exclude)
    rows, given_ = made(log, config), whole(log)
    assert rows["sample_id"].is_unique().all() and rows["time"].is_sorted() and rows["request_id"].is_sorted()
    table = [(t.timestamp() * 1e6, u, i) for t, u, i in given_.select("time", "user_id", "item_id").rows()]
    lists = {request["request_id"][0]: request for request in rows.partition_by("request_id")}
    for number, (time, user, own) in enumerate(table):
        q, places = chances(draw, table, time)
        window = [table[k][1:] for k in places]
        chosen = {i for t, u, i in table if u == user and t <= time} if exclude == CHOSEN else {own}
        possible, by_others = {i for _, i in window} - chosen, {i for u, i in window if u != user}
        request = lists.get(number)
        if which == POOL and (own not in by_others or len(possible) < per):
            assert request is None
            continue
        if request is None:  # TRIES draws did not fill the list
            assert which == POOL and len(window) > per
            continue
        assert (request["request_id"] == number).all()
        for item, log_q in request.select("item_id", "log_q").rows():
            assert log_q == pytest.approx(np.log(q[item]), abs=1e-6) if item in q else log_q is None
        real = request.filter(pl.col("label_click") == 1)
        assert real.drop("request_id", "log_q").equals(given_[number : number + 1])
        drawn = request.filter(pl.col("label_click") == 0)["item_id"].to_list()
        assert len(set(drawn)) == len(drawn) and set(drawn) <= possible
        assert len(drawn) == per if which == POOL else len(drawn) <= per
        assert request["feature_device"].n_unique() == request["user_id"].n_unique() == request["time"].n_unique() == 1
        assert request["feature_topic"].to_list() == [item * 7 for item in request["item_id"]]
        assert request["label_buy"].equals(request["label_click"])
        assert ((request["sample_id"] < 0) == (request["label_click"] == 0)).all()
        if len(possible) > per + 6 and TRIES > 10:
            assert drawn


@settings(max_examples=40)
@given(st.lists(EVENT, max_size=40), st.lists(st.integers(0, 40), max_size=5).map(sorted))
@example([(k // 20, k % 3, k * k % 11) for k in range(60)], list(range(60)))  # instants cut in the middle
@example([(k // 3, k % 4, k * k % 11) for k in range(60)], [1, 29, 30, 31])
def test_negatives_do_not_depend_on_the_cuts(events: list[tuple[int, int, int]], cuts: list[int]) -> None:
    one, many = (positives(events, c) for c in ((), tuple(min(c, len(events)) for c in cuts)))
    for (which, exclude), draw in product(((POOL, NOTHING), (ALL, CHOSEN)), DRAWS):
        config = NegativesConfig(per_positive=2, **draw, positives=which, exclude=exclude)
        assert made(one, config).equals(made(many, config))


@pytest.mark.parametrize("draw", DRAWS)
def test_negatives_do_not_look_ahead(draw: dict[str, Any]) -> None:
    past = [(k % 10, k % 4, k % 13) for k in range(60)]
    config = NegativesConfig(per_positive=2, **draw)
    known = whole(with_negatives(positives(past), config))
    assert len(known) > 60
    more = whole(with_negatives(positives(past + [(10 + k % 5, k % 4, k % 13) for k in range(60)]), config))
    assert more.head(len(known)).equals(known)


@pytest.mark.parametrize("draw", DRAWS)
@pytest.mark.parametrize("block", [7, 250, 10**6])  # what is drawn from lies before the block, in it, or in both
def test_negatives_are_drawn_by_their_probabilities(
    draw: dict[str, Any], block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(negatives, "BLOCK", block)
    draw = draw | ({"window_hours": 1e3} if "window_hours" in draw else {"rows": 10**6} if "rows" in draw else {})
    crowd = np.repeat([0, 1, 2], [600, 300, 100])[np.random.default_rng(0).permutation(1000)]
    n, asked = len(crowd), 4000
    time = np.r_[np.arange(n), np.full(asked, n)] * 1000
    log = log_of(
        time, np.r_[np.arange(n) + asked, np.arange(asked)], np.r_[crowd, np.full(asked, 9)], np.ones(n + asked)
    )
    rows = made(log, NegativesConfig(per_positive=1, **draw, positives=ALL)).filter(
        pl.col("user_id") < asked, pl.col("label_click") == 0
    )
    counts, power = Counter(rows["item_id"].to_list()), {"uniform": 0, "popularity": 0.5}.get(draw.get("draw", ""), 1)
    weights = np.array([600.0, 300.0, 100.0]) ** power
    for item, share in enumerate(weights / weights.sum()):
        assert abs(counts[item] - asked * share) < 4 * np.sqrt(asked * share * (1 - share))
        (log_q,) = rows.filter(item_id=item)["log_q"].unique()
        assert log_q == pytest.approx(np.log(share), abs=1e-6)


@pytest.mark.parametrize("draw", [{"draw": "uniform"}, {"draw": "popularity"}])
def test_an_item_of_long_ago_has_the_features_of_its_last_row(draw: dict[str, Any]) -> None:
    """Item i has topic 7 i when it first stands in the log, and 7 i + 1 from then on."""
    log = positives([(k, k % 9, k % 40) for k in range(160)])
    first = whole(log)["item_id"].is_first_distinct()
    changed = replace(
        log, batches=lambda: iter([whole(log).with_columns(pl.col("feature_topic") + (~first).cast(pl.Int64))])
    )
    rows = whole(with_negatives(changed, NegativesConfig(per_positive=2, **draw)))
    past = whole(changed).select("time", "item_id", "feature_topic").rows()
    for time, item, topic in rows.filter(label_click=0).select("time", "item_id", "feature_topic").rows():
        assert topic == [seen for t, i, seen in past if i == item and t < time][-1]
    assert {topic % 7 for topic in rows.filter(label_click=0)["feature_topic"]} == {0, 1}


@pytest.mark.parametrize(
    ("given_", "why"),
    [
        ({"draw": "uniform", "window_hours": 2.0}, "window_hours: belongs to draw: window; draw: uniform does not"),
        ({"rows": 10}, "rows: belongs to draw: batch"),
        ({"draw": "batch", "power": 0.5}, "power: belongs to draw: popularity"),
        ({"correct": True, "positives": "all"}, "correct: needs positives: pool and exclude: nothing"),
        ({"correct": True, "exclude": "chosen"}, "correct: needs positives: pool and exclude: nothing"),
    ],
)
def test_a_key_that_the_draw_does_not_look_at_is_refused(given_: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        NegativesConfig(**given_)


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
    first, rates = log.notes()
    assert first.startswith("negatives, draw window: 3 of 7 positives left out that nobody else chose in the window")
    assert rates.startswith("negatives, draw window: 6; a pair ") and " 0.639 on average, 0.333 to 1 " in rates
    assert ", 1 more whose list could not be filled" in log.notes()[0]
    whole(log)
    assert log.notes()[0].startswith("negatives, draw window: 3 of 7 ")  # of this reading alone
    kept = with_negatives(positives(events), NegativesConfig(per_positive=2, positives=ALL))
    assert len(set(whole(kept)["request_id"])) == 7
    assert kept.notes()[0].startswith("negatives, draw window: 5 of 14 places stayed empty, around 3 of 7 positives: ")


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

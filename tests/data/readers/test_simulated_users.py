"""Users that click on what they are shown: after a log's first rows, by the log's own probabilities, and no other."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from recdistill.data.readers.simulated_users import SimulatedUsers
from recdistill.data.readers.simulator import LIST, Impressions, Simulator, SimulatorConfig
from recdistill.errors import UserError

CONFIG = SimulatorConfig(rows=20_000, users=40, items=60, topics=10, topics_liked=3, days=5)


@pytest.fixture
def users() -> SimulatedUsers:
    return SimulatedUsers(Simulator(CONFIG), 8_000, 12)


def test_the_visits_come_after_the_rows_and_end_with_the_log(users: SimulatedUsers) -> None:
    log = pl.concat(Simulator(CONFIG).chunks())
    visits = users.visits(users.first, 50)
    assert users.first == 2_000 and users.end == 5_000
    assert visits.time[0] == log["time"].dt.epoch("us")[8_000] and (np.diff(visits.time) > 0).all()
    assert len(users.visits(users.end - 3, 50).number) == 3


def test_candidates_are_different_items_born_by_then(users: SimulatedUsers) -> None:
    visits = users.visits(users.first, 500)
    assert all(len(set(row)) == 12 for row in visits.items.tolist())
    assert (users.simulator.birth[visits.items] <= visits.progress[:, None]).all() and (visits.age_days >= 0).all()
    assert (visits.topic == users.simulator.topic[visits.items]).all()
    assert len(np.unique(visits.items)) > 40


def test_more_candidates_than_are_surely_born_are_refused() -> None:
    with pytest.raises(UserError, match="simulator: items must be at least 62 where 31 are ranked at a time; got 60"):
        SimulatedUsers(Simulator(CONFIG), 8_000, 31)


def test_a_click_has_the_probability_that_the_log_gives_it() -> None:
    """Of the log's own impressions, with nobody's taste grown yet."""
    log = next(Simulator(CONFIG).slabs())
    world = Simulator(CONFIG)
    shown = Impressions(
        log["user_id"].to_numpy(),
        log["item_id"].to_numpy(),
        log["request_id"].to_numpy() * (LIST / CONFIG.rows),
        log["feature_position"].to_numpy(),
        log["feature_device"].to_numpy(),
    )
    click, finish = world.probabilities(shown, world.strength)
    np.testing.assert_array_equal(click, log["probability_click"])
    np.testing.assert_array_equal(click * finish, log["probability_finish"])


def test_tastes_stand_where_the_log_left_them() -> None:
    one, other = Simulator(CONFIG), Simulator(CONFIG)
    assert (one.strength_after(8_000) > one.strength).any() and np.array_equal(one.strength_after(0), one.strength)
    assert np.array_equal(one.strength_after(8_000), other.strength_after(8_000))


def test_what_is_clicked_is_liked_more_afterwards_and_the_same_again(users: SimulatedUsers) -> None:
    visits = users.visits(users.first, 400)
    place = np.zeros(1, np.int64)
    best = np.take_along_axis(visits.items, np.argsort(-users.probability(visits, visits.items, place), 1)[:, :LIST], 1)
    before = users.strength.copy()
    clicks = users.click(visits, best)
    assert (users.strength >= before).all() and (users.strength > before).any()
    assert 0 < clicks.clicked.mean() < 1 and (clicks.clicked | ~clicks.finished).all()
    assert (clicks.click_known >= visits.time[:, None]).all() and (clicks.finish_known >= clicks.click_known).all()
    again = SimulatedUsers(Simulator(CONFIG), 8_000, 12)
    assert np.array_equal(again.click(again.visits(again.first, 400), best).clicked, clicks.clicked)


def test_the_first_place_is_clicked_on_most(users: SimulatedUsers) -> None:
    visits = users.visits(users.first, 100)
    first, last = (users.probability(visits, visits.items, np.array([place])) for place in (0, 3))
    assert (first > last).all()

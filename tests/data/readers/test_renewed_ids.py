"""A simulated log whose ids never end: who leaves comes never back, and everything else is as without."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from recdistill.data.readers.simulated_users import SimulatedUsers
from recdistill.data.readers.simulator import Simulator, SimulatorConfig
from recdistill.errors import UserError

PLAIN = SimulatorConfig(rows=40_000, users=50, items=80, days=10.0)
RENEWED = replace(PLAIN, renew_users=0.5, renew_items=0.25)


def log_of(config: SimulatorConfig) -> pl.DataFrame:
    return pl.concat(Simulator(config).chunks())


def test_only_names_and_ages_differ() -> None:
    plain, renewed = log_of(PLAIN), log_of(RENEWED)
    changed = ["user_id", "item_id", "feature_age_days"]
    assert_frame_equal(plain.drop(changed), renewed.drop(changed))
    assert (renewed["user_id"] % 50 == plain["user_id"]).all() and (renewed["item_id"] % 80 == plain["item_id"]).all()


@pytest.mark.parametrize(("column", "count", "share"), [("user_id", 50, 0.5), ("item_id", 80, 0.25)])
def test_a_share_of_the_ids_is_new_each_day_and_none_comes_back(column: str, count: int, share: float) -> None:
    log = log_of(RENEWED).with_columns(day=(pl.col("time") - pl.col("time").min()).dt.total_microseconds() / 86_400e6)
    lives = log.group_by(column).agg(first=pl.col("day").min(), last=pl.col("day").max())
    assert lives["last"].max() <= 10 and (lives["last"] - lives["first"]).max() <= 1 / share + 1e-6  # type: ignore[operator]
    assert 0.6 <= len(lives) / (count * (1 + share * 10)) <= 1.05  # half of the items are born on the way
    alive = log.group_by((pl.col("day") // (1 / share)).alias("era")).agg(pl.col(column).n_unique())
    assert alive[column].max() <= 2 * count  # type: ignore[operator]
    whose = log.with_columns(place=pl.col(column) % count).sort("time", maintain_order=True)
    turns = whose.group_by("place", maintain_order=True).agg(pl.col(column).diff().drop_nulls().min().alias("least"))
    assert (turns["least"].drop_nulls() >= 0).all()


def test_an_item_ages_from_the_day_it_came() -> None:
    log = log_of(RENEWED)
    later = log.filter(pl.col("item_id") >= 80)
    assert later["feature_age_days"].max() <= 4 + 1e-3 and later["feature_age_days"].min() >= 0  # type: ignore[operator]
    first = log.filter(pl.col("item_id") < 80)
    same = log_of(PLAIN).filter(pl.col("sample_id").is_in(first["sample_id"].implode()))
    assert np.array_equal(first["feature_age_days"].to_numpy(), same["feature_age_days"].to_numpy())


@pytest.mark.parametrize("value", [-0.1, float("nan"), "x", True])
def test_a_share_that_is_none_is_refused(value: float) -> None:
    with pytest.raises(UserError, match="renew_users must be"):
        SimulatorConfig(renew_users=value)


def test_users_who_are_served_keep_their_ids() -> None:
    with pytest.raises(UserError, match="renew_users and renew_items are of a log"):
        SimulatedUsers(Simulator(RENEWED), 400, 10)

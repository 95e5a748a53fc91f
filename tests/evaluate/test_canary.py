"""A canary against what happened: off beyond its bound, beyond chance, and further than what is served."""

from __future__ import annotations

import math
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recdistill.evaluate.canary import ENOUGH, Happened, began, fault, happened
from recdistill.tables.events import EventLog, OutcomeLog
from recdistill.tables.predictions import PredictionLog
from tests.support.scored_rows import START, events_of, record

ROWS, USERS = 900, 60
CALIBRATED = Happened(1000, 200.0, 200.0, 10.0)


@pytest.mark.parametrize(
    ("canary", "served", "ends"),
    [
        (Happened(1000, 320, 200, 10), CALIBRATED, True),
        (Happened(1000, 120, 200, 10), CALIBRATED, True),
        (Happened(1000, 290, 200, 10), CALIBRATED, False),  # within the bound
        (Happened(1000, 320, 200, 40), CALIBRATED, False),  # may be chance
        (Happened(ENOUGH - 1, 320, 200, 10), CALIBRATED, False),
        (Happened(1000, 320, 200, 10), Happened(1000, 400, 200, 10), False),  # what is served is worse
        (Happened(1000, 320, 200, 10), Happened(1000, 100, 200, 10), False),  # likewise, on the other side
        (Happened(1000, 320, 200, 10), Happened(ENOUGH - 1, 400, 200, 10), True),  # of which too little is known
        (Happened(1000, 320, 200, 10), Happened(0, 0, 0, 0), True),
        (Happened(1000, 9, 0, 1), CALIBRATED, True),
        (Happened(1000, 0, 0, 0), CALIBRATED, False),
    ],
)
def test_when_it_ends(canary: Happened, served: Happened, ends: bool) -> None:
    why = fault("click", canary, served, 1.5)
    assert (why is not None) == ends
    assert why is None or (f"it predicts {canary.predicted / 1000:.4g} of click on average" in why)


@given(st.floats(1e-3, 1e3), st.floats(1e-3, 1e3))
def test_as_much_too_high_is_as_far_off_as_too_low(predicted: float, observed: float) -> None:
    one, other = Happened(1, predicted, observed, 0.0), Happened(1, observed, predicted, 0.0)
    assert one.off == pytest.approx(other.off) and one.off == pytest.approx(abs(math.log(predicted / observed)))


def tables(path: Path) -> tuple[EventLog, PredictionLog, pl.DataFrame]:
    """Write a row a minute; a model predicts the second half, with the rates that labels were drawn from."""
    draw = np.random.default_rng(5)
    logit = draw.normal(-1, 1, ROWS)
    label = (draw.random(ROWS) < 1 / (1 + np.exp(-logit))).astype(np.float32)
    events, frame = events_of(path, {"user_id": draw.integers(0, USERS, ROWS), "label": label})
    log = PredictionLog.create(path / "predictions", ("click",))
    record(log, frame[ROWS // 2 :], "served.v2", logit[ROWS // 2 :])
    return events, log, frame.with_columns(logit=pl.Series(logit))


def test_what_was_predicted_and_what_happened_are_counted_since_it_began(tmp_path: Path) -> None:
    events, log, frame = tables(tmp_path)
    since = began(log, ["served.v2", "served.v1"])
    assert since == START + timedelta(minutes=ROWS // 2) and began(log, ["served.v1", "served.v2"]) is None
    found, half = happened(events, log, "served.v2", "click", since, None), frame[ROWS // 2 :]
    p, y = 1 / (1 + np.exp(-half["logit"].to_numpy())), half["label_click"].to_numpy()
    assert found.rows == ROWS // 2
    assert found.predicted == pytest.approx(p.sum(), rel=1e-6) and found.observed == y.sum()
    by_user = [(p - y)[half["user_id"].to_numpy() == user].sum() for user in half["user_id"].unique()]
    wanted = max(np.sqrt((p * (1 - p)).sum()), np.sqrt(len(by_user)) * np.std(by_user))
    assert found.error == pytest.approx(wanted, rel=1e-6) and found.by_chance
    later: datetime = since + timedelta(minutes=100)
    assert happened(events, log, "served.v2", "click", later, None).rows == ROWS // 2 - 100


def test_outcomes_that_may_still_come_are_waited_for_and_then_none_is_a_negative(tmp_path: Path) -> None:
    events, log, frame = tables(tmp_path / "labelled")
    since = began(log, ["served.v2", "served.v1"])
    assert since is not None
    bare, rows = events_of(tmp_path / "later", {"user_id": frame["user_id"].to_list(), "label": [None] * ROWS})
    half = rows[ROWS // 2 :]
    assert happened(bare, log, "served.v2", "click", since, 600).rows == 0  # no label, and no table of outcomes
    outcomes = OutcomeLog.create(tmp_path / "later" / "outcomes", bare.schema)
    clicked = half[::3].select("sample_id", "time").with_columns(task=pl.lit("click"), label=pl.lit(1.0, pl.Float32))
    outcomes.append(clicked.select("sample_id", "task", "label", "time"), writer="w", sequence=0)
    found = happened(bare, log, "served.v2", "click", since, 6000)
    assert found.rows == ROWS // 2 - 100 and found.observed == len(range(0, ROWS // 2 - 100, 3))

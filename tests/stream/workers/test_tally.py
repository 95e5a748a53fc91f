"""What a model counts: sums over known labels, corrections that leave no trace, lag and lineage."""

from __future__ import annotations

import json
import time
from collections import Counter

import numpy as np
import pytest

from recdistill.stream.workers.tally import Tally


def test_sums_are_over_rows_whose_label_is_known() -> None:
    tally = Tally(0.5)
    z = np.array([0.2, -1.0, 3.0], np.float32)
    tally.add_predictions(np.array([1.0, 0.0, np.nan], np.float32), z)
    p = 1 / (1 + np.exp(-(z[:2].astype(np.float64) - 0.5)))  # in the log's own odds
    sums = tally.as_sums()
    assert (sums.labels, sums.positives) == (2.0, 1.0)
    assert sums.predicted == pytest.approx(p.sum()) and sums.logloss == pytest.approx(-np.log(p[0]) - np.log(1 - p[1]))


def test_a_corrected_negative_counts_as_if_it_had_been_a_positive() -> None:
    z = np.array([0.3, -2.0])
    corrected, right = Tally(0.0), Tally(0.0)
    corrected.add_predictions(np.zeros(2), z)
    corrected.correct(z[1:])
    right.add_predictions(np.array([0.0, 1.0]), z)
    assert vars(corrected.as_sums()) == pytest.approx(vars(right.as_sums()))


def test_learned_rows_count_their_waiting_lag_and_signals() -> None:
    tally, now = Tally(0.0), time.time()
    signals = Counter({("teacher", "3"): 2, ("teacher-b", "1"): 1})
    tally.add_learned(np.full(4, now - 10), np.array([now - 20, 0.0, now - 30, 0.0]), signals)
    tally.add_learned(np.full(1, now - 10), np.zeros(1), Counter({("teacher", "3"): 1}))
    sums = tally.as_sums()
    assert (sums.learned, sums.signals) == (5.0, 4.0) and sums.waiting == pytest.approx(50.0, abs=5.0)
    assert tally.lag == pytest.approx(30.0, abs=1.0)  # unknown departures count for nothing
    assert tally.lineage() == {"teacher": {"3": 3}, "teacher-b": {"1": 1}}


def test_it_goes_on_from_its_state() -> None:
    tally = Tally(0.0)
    tally.add_predictions(np.ones(3), np.zeros(3))
    tally.add_learned(np.zeros(3), np.zeros(3), Counter({("teacher", "3"): 2}))
    again = Tally(0.0)
    again.restore(json.loads(json.dumps(tally.state())))
    assert again.as_sums() == tally.as_sums() and again.learned_from == tally.learned_from
    again.sums["seconds"] += 1.0  # a name that was never counted begins at 0

"""Logistic regression against the condition that its minimum satisfies."""

from __future__ import annotations

import numpy as np
import pytest

from recdistill.evaluate.logistic import fit_logistic


@pytest.mark.parametrize("seed", range(5))
def test_the_slope_is_zero_at_the_minimum(seed: int) -> None:
    draw = np.random.default_rng(seed)
    x = np.c_[np.ones(400), draw.normal(0, 1, (400, 3)) * [1.0, 5.0, 0.1]]
    true = draw.normal(0, 1, 4)
    label = (draw.random(400) < 1 / (1 + np.exp(-x @ true))).astype(float)
    weights = fit_logistic(x, label, np.ones(len(x)), penalty=0.5)
    slope = x.T @ (1 / (1 + np.exp(-x @ weights)) - label) + 0.5 * weights
    assert np.abs(slope).max() < 1e-2 and np.abs(weights).max() > 0.1


@pytest.mark.parametrize("scale", [1.0, 1e3])
def test_labels_that_a_column_parts_perfectly_leave_the_weights_finite(scale: float) -> None:
    x = np.c_[np.ones(100), np.linspace(-1, 1, 100) * scale]
    weights = fit_logistic(x, (x[:, 1] > 0).astype(float), np.ones(len(x)))
    assert np.isfinite(weights).all() and weights[1] > 0

"""Logistic regression by Newton's method, for a few columns and any number of rows."""

from __future__ import annotations

import numpy as np

from recdistill.evaluate.metrics import log_losses, probability
from recdistill.typing import Array

__all__ = ["fit_logistic"]

STEPS = 50
HALVINGS = 30


def fit_logistic(x: Array, label: Array, counted: Array, penalty: float = 1.0) -> Array:
    """Return float64 [D], the weights w that minimise sum of counted x log-loss of x w + penalty / 2 w'w.

    x: float64 [N, D]; label: float [N] from 0 to 1; counted: float64 [N], what each row counts. The
    penalty, positive, makes the minimum unique; a step that does not lower the loss is halved, so that heavy columns
    cannot make it diverge.
    """
    weights = np.zeros(x.shape[1])
    loss = _loss(x, label, counted, weights, penalty)
    for _ in range(STEPS):
        p = probability(x @ weights)
        slope = x.T @ (counted * (p - label)) + penalty * weights
        curvature = (x * (counted * p * (1 - p))[:, None]).T @ x + penalty * np.eye(len(weights))
        step = np.linalg.solve(curvature, slope)
        for _ in range(HALVINGS):
            lower = _loss(x, label, counted, weights - step, penalty)
            if lower <= loss:
                break
            step = step / 2
        else:
            return weights  # nothing lower in this direction: it is the minimum, as far as numbers go
        weights = weights - step
        if loss - lower <= 1e-9 * max(loss, 1.0):
            return weights
        loss = lower
    return weights


def _loss(x: Array, label: Array, counted: Array, weights: Array, penalty: float) -> float:
    return float((counted * log_losses(label, x @ weights)).sum() + penalty / 2 * weights @ weights)

"""Several teachers as one: the mean of their log-odds, each alike or weighted by how well it did lately, per slice."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from recdistill.typing import Array

__all__ = ["RecentLosses", "combine", "mean"]

Known = tuple[Array, Array, Array]

STEP = 1000  # rows weighted alike, by what was known before them
SHARPNESS = 0.005  # nats: a teacher whose log-loss was larger by so much has 1 / e of the other's weight
MIN_SLICE_ROWS = 200  # rows of a slice before its weights differ


class RecentLosses:
    """How well `teachers` did so far: exponentially fading log-loss and rows [slices, T, K], of about
    `window` rows per slice.
    """

    def __init__(self, slices: int, teachers: int, tasks: int, window: int) -> None:
        self.loss, self.rows = np.zeros((slices, teachers, tasks)), np.zeros((slices, teachers, tasks))
        self.window = window

    def weights(self) -> Array:
        """Return float64 [slices, T, K], each >= 0, 1 in all over the teachers."""
        mean = self.loss / np.maximum(self.rows, 1e-9)
        mean = np.where((self.rows < MIN_SLICE_ROWS).any(1, keepdims=True), 0.0, mean)
        weight = np.exp((mean.min(1, keepdims=True) - mean) / SHARPNESS)
        return np.asarray(weight / weight.sum(1, keepdims=True))

    def add(self, log_odds: Array, labels: Array, slices: Array) -> None:
        """Count log-odds [T, n, K] of which the labels [n, K] are known now; NaN counts nothing."""
        z, y = log_odds.astype(np.float64), labels[None]
        known = ~(np.isnan(z) | np.isnan(y))
        loss = np.where(known, np.logaddexp(0.0, np.where(known, z, 0.0)) - np.where(known, y * z, 0.0), 0.0)
        count = np.bincount(slices, minlength=len(self.loss))
        fade = np.exp(-count / self.window)[:, None, None]
        for total, new in ((self.loss, loss), (self.rows, known.astype(float))):
            total *= fade
            np.add.at(total, slices, new.transpose(1, 0, 2))


def mean(log_odds: Array) -> Array:
    """Return float32 [n, K]: the mean of log-odds [T, n, K] of T teachers, NaN where none has one."""
    return _weighted(log_odds, np.ones_like(log_odds))


def combine(log_odds: Array, slices: Array, recent: RecentLosses, newly_known: Callable[[int], Known]) -> Array:
    """Return float32 [n, K]: log-odds [T, n, K] of T teachers as one, NaN where none has one; a teacher without has no
    weight.

    Rows are in order of time. Each is weighted by what was known before its STEP of rows: newly_known(row) gives
    (log-odds [T, m, K], labels [m, K], slices [m]) of what became known since it was last asked, which goes to
    `recent`.
    """
    out = np.empty(log_odds.shape[1:], np.float32)
    for low in range(0, len(out), STEP):
        recent.add(*newly_known(low))
        part = slice(low, low + STEP)
        out[part] = _weighted(log_odds[:, part], recent.weights()[slices[part]].transpose(1, 0, 2))
    return out


def _weighted(log_odds: Array, weights: Array) -> Array:
    weights = np.where(np.isnan(log_odds), 0.0, weights)
    total = weights.sum(0)
    mean = (np.nan_to_num(log_odds) * weights).sum(0) / np.where(total > 0, total, 1.0)
    return np.where(total > 0, mean, math.nan).astype(np.float32)

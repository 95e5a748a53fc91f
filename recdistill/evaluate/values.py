"""Metrics of predicted values: MAE, RMSE, XAUC, calibration; numpy, float64.

label, value [N] in the label's unit; weight float64 [N], not negative, or None where all rows count alike.

XAUC is the share of the pairs with different labels that the predictions order as the labels do, ties of predictions
counted half: AUC for labels with more than two values. A pair counts the product of its rows' weights.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from recdistill.errors import UserError
from recdistill.evaluate.metrics import Scores, drawn_sums, mean
from recdistill.typing import Array

__all__ = ["concordance", "influences", "score", "value_replicates", "xauc"]


def _of_equal(keys: Array, weight: Array) -> Array:
    """Return float64 [N]: the weight of the rows with the same key, its own included; keys: int [N] from 0."""
    return np.asarray(np.bincount(keys, weight)[keys])


def _codes(values: Array) -> Array:
    return np.unique(values, return_inverse=True)[1]


def concordance(label: Array, value: Array, weight: Array | None = None) -> tuple[Array, Array]:
    """Return float64 [N] each: what the other rows weigh that a row is in order with, ties of values counted half, and
    what those with another label weigh. XAUC is the weighted sum of the first over that of the second.

    O(N log N): the ranks of the values are compared bit by bit, all rows of a common prefix at once.
    """
    y, z = _codes(label), _codes(value)
    w = np.ones(len(y)) if weight is None else np.asarray(weight, np.float64)
    order = np.lexsort((-z, y))  # of one label the higher value first, so that such pairs are never in order
    found = np.zeros(len(y))
    for bit in reversed(range(int(z.max(initial=0)).bit_length())):
        order = _compare(order, z, w, bit, found)
    pair = _codes(y * (z.max(initial=0) + 1) + z)
    found += 0.5 * (_of_equal(z, w) - _of_equal(pair, w))
    return found, w.sum() - _of_equal(y, w)


def _compare(order: Array, rank: Array, weight: Array, bit: int, found: Array) -> Array:
    """Add to `found` what pairs weigh whose ranks differ first in `bit`; return the rows by rank down to that bit.

    order: rows by rank down to the bit before, those of one prefix in order of label.
    """
    prefix, one = rank[order] >> (bit + 1), (rank[order] >> bit) & 1
    starts = np.flatnonzero(np.r_[True, prefix[1:] != prefix[:-1]])
    of = np.repeat(np.arange(len(starts)), np.diff(np.r_[starts, len(order)]))
    low, high = np.where(one, 0.0, weight[order]), np.where(one, weight[order], 0.0)
    up_to = [np.r_[0.0, np.cumsum(part)] for part in (low, high)]
    ends = np.r_[starts[1:], len(order)]
    below = up_to[0][:-1] - up_to[0][starts][of]  # zeros before the row in its prefix
    above = up_to[1][ends][of] - up_to[1][1:]  # ones after it
    found[order] += np.where(one, below, above)
    return np.asarray(order[np.argsort(rank[order] >> bit, kind="stable")])


def _checked(label: Array, value: Array) -> tuple[Array, Array]:
    y, z = np.asarray(label, np.float64), np.asarray(value, np.float64)
    if y.ndim != 1 or y.shape != z.shape:
        raise UserError(f"metrics: labels {y.shape} and values {z.shape} must be one-dimensional and equally long")
    for name, given in (("label", y), ("value", z)):
        if not np.isfinite(given).all():
            at = int(np.argmin(np.isfinite(given)))
            raise UserError(f"metrics: {name} {given[at]} in row {at}; drop rows without one")
    return y, z


def _ratio(found: Array, of: Array, weight: Array | None) -> float:
    above, below = (float(part.sum() if weight is None else weight @ part) for part in (found, of))
    return above / below if below else math.nan


def xauc(label: Array, value: Array, weight: Array | None = None) -> float:
    """Return XAUC; NaN where all labels are one."""
    return _ratio(*concordance(*_checked(label, value), weight), weight)


def score(label: Array, value: Array, weight: Array | None = None) -> Scores:
    """Return xauc, mae, rmse and calibration, the sum of the predictions over that of the labels."""
    y, z = _checked(label, value)
    found = {
        "xauc": xauc(y, z, weight),
        "mae": mean(np.abs(z - y), weight),
        "rmse": math.sqrt(mean((z - y) ** 2, weight)),
        "calibration": _ratio(z, y, weight),
    }
    reason = f"all {len(y)} labels are {y[0]:g}" if len(y) else "there are no rows"
    why = {name: reason for name, value in found.items() if math.isnan(value)}
    return Scores({name: None if name in why else value for name, value in found.items()}, why)


def influences(label: Array, value: Array, weight: Array | None) -> dict[str, tuple[float, Array]]:
    """Return per metric (xauc, mae, rmse; larger is better, so errors are negative) its value and float64 [N], each
    row's influence on it: what drawing the row once more adds, to first order.
    """
    y, z = np.asarray(label, np.float64), np.asarray(value, np.float64)
    w = np.ones(len(y)) if weight is None else weight
    ordered, pairs = concordance(y, z, weight)
    with np.errstate(divide="ignore", invalid="ignore"):
        area = (w @ ordered) / (w @ pairs)
        of_area = 2 * w * (ordered - area * pairs) / (w @ pairs)
        error, square = np.abs(z - y), (z - y) ** 2
        mae, mse = (w @ error) / w.sum(), (w @ square) / w.sum()
        of_mae, of_mse = w * (error - mae) / w.sum(), w * (square - mse) / w.sum()
        rmse = np.sqrt(mse)
        of_rmse = of_mse / (2 * rmse if rmse > 0 else 1.0)
    return {"xauc": (float(area), of_area), "mae": (-float(mae), -of_mae), "rmse": (-float(rmse), -of_rmse)}


def value_replicates(
    label: Array, values: Sequence[Array], weight: Array | None, at: Array, weights: Array
) -> dict[str, Array]:
    """Return per metric (xauc, mae, rmse; larger is better) float64 [models, replicates]: XAUC to first order, the
    errors exactly.

    at: int [N], the bundle of each row; weights: float64 [replicates, bundles], how often each is drawn.
    """
    w = np.ones(len(label)) if weight is None else weight

    def totals(one: Array) -> Array:
        return drawn_sums(weights, np.bincount(at, one, weights.shape[1]))

    found: dict[str, list[Array]] = {"xauc": [], "mae": [], "rmse": []}
    rows, changed = totals(w), weights - 1
    with np.errstate(divide="ignore", invalid="ignore"):
        for value in values:
            area, of_area = influences(label, value, weight)["xauc"]
            drawn = drawn_sums(changed, np.bincount(at, of_area, weights.shape[1]))
            found["xauc"].append(area + drawn)
            found["mae"].append(-totals(w * np.abs(value - label)) / rows)
            found["rmse"].append(-np.sqrt(totals(w * (value - label) ** 2) / rows))
    return {name: np.stack(replicates) for name, replicates in found.items()}

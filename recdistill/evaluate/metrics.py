"""Metrics of binary predictions from raw logits: numpy, vectorised, 1.2 million rows in a fraction of a second.

label [N] holds 0 and 1, logit [N] is float32 or float64, group [N] any integers. Each function raises UserError for
NaN, infinities, other labels and unequal lengths, and returns NaN where the metric does not exist; `score` gives the
reason.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np

from recdistill.errors import UserError
from recdistill.typing import Array

__all__ = [
    "Array",
    "Scores",
    "auc",
    "calibration",
    "calibration_bins",
    "divergence",
    "ece",
    "entropy",
    "gauc",
    "gauc_parts",
    "log_losses",
    "logloss",
    "ne_of_sums",
    "normalized_entropy",
    "over_seeds",
    "placements",
    "probability",
    "score",
]

LARGEST_CODE = 2**30  # users and groups above it are recoded, so that (group, logit, label) fits 64 bits


@dataclass(frozen=True)
class Scores:
    """The metrics by name, None where undefined; `why` then gives the reason in one sentence. std: over
    seeds, where there are several.
    """

    values: dict[str, float | None]
    why: dict[str, str]
    std: dict[str, float] = field(default_factory=dict)


def _checked(label: Array, logit: Array) -> tuple[Array, Array]:
    """Return label as bool and logit as float; UserError for what no metric accepts."""
    y, z = np.asarray(label), np.asarray(logit)
    if y.ndim != 1 or y.shape != z.shape:
        raise UserError(f"metrics: labels {y.shape} and logits {z.shape} must be one-dimensional and equally long")
    if z.dtype not in (np.float32, np.float64):
        z = z.astype(np.float64)
    finite = np.isfinite(z)
    if not finite.all():
        raise UserError(f"metrics: logit {z[~finite][0]} in row {int(np.argmin(finite))}; drop rows without one")
    positive = y == 1
    valid = positive | (y == 0)
    if not valid.all():
        raise UserError(f"metrics: label {y[~valid][0]} in row {int(np.argmin(valid))}; labels must be 0 or 1")
    return positive, z


def _order_codes(logit: Array) -> Array:
    """Return uint64 codes below 2^32 ordered like `logit`, equal where it is equal."""
    if logit.dtype == np.float32:
        bits = (logit + np.float32(0)).view(np.uint32)  # adding 0 makes -0 and 0 one value
        flipped = np.where(bits >> 31 == 1, ~bits, bits | np.uint32(1 << 31))
        return np.asarray(flipped, np.uint64)
    return np.unique(logit, return_inverse=True)[1].astype(np.uint64)


def _small_codes(code: Array) -> tuple[Array, Array | None]:
    """Return (codes as uint64 below 2^30, the values they stand for or None when they stand for themselves)."""
    if len(code) and (code.min() < 0 or code.max() >= LARGEST_CODE):
        values, inverse = np.unique(code, return_inverse=True)
        return inverse.astype(np.uint64), values
    return code.astype(np.uint64), None


def _starts(keys: Array) -> Array:
    """Return the index where scores run of equal sorted keys begins."""
    return np.flatnonzero(np.concatenate([[True], keys[1:] != keys[:-1]])) if len(keys) else np.zeros(0, np.int64)


def gauc_parts(label: Array, logit: Array, group: Array) -> tuple[Array, Array, Array]:
    """Return (code, AUC, rows) of every group with both classes, ascending by code, ties counted half.

    GAUC is the mean of these AUCs weighted by rows. One sort of (group, logit, label) packed into 64 bits, no loop.
    """
    y, z = _checked(label, logit)
    if len(group) != len(y):
        raise UserError(f"metrics: {len(group)} groups for {len(y)} labels")
    if not len(y):
        return np.zeros(0, np.int64), np.zeros(0), np.zeros(0, np.int64)
    code, values = _small_codes(np.asarray(group))
    key = np.sort((code << np.uint64(33)) | (_order_codes(z) << np.uint64(1)) | y)
    positive = (key & np.uint64(1)).astype(np.float64)
    of_group = (key >> np.uint64(33)).astype(np.int64)
    ties, starts = _starts(key >> np.uint64(1)), _starts(of_group)
    rows = np.diff(np.append(starts, len(key)))
    tie_positives = np.add.reduceat(positive, ties)
    tie_negatives = np.diff(np.append(ties, len(key))) - tie_positives
    first_tie = np.searchsorted(ties, starts)
    seen = np.cumsum(tie_negatives) - tie_negatives
    below = seen - np.repeat(seen[first_tie], np.diff(np.append(first_tie, len(ties))))
    area = np.add.reduceat(tie_positives * (below + 0.5 * tie_negatives), first_tie)
    positives = np.add.reduceat(positive, starts)
    pairs = positives * (rows - positives)
    mixed = pairs > 0
    codes = of_group[starts[mixed]]
    return codes if values is None else values[codes], area[mixed] / pairs[mixed], rows[mixed]


def auc(label: Array, logit: Array) -> float:
    """Return the probability that a positive scores above a negative, ties counted half; NaN with one class only."""
    areas = gauc_parts(label, logit, np.zeros(len(label), np.int64))[1]
    return float(areas[0]) if len(areas) else math.nan


def gauc(label: Array, logit: Array, group: Array) -> float:
    """Return the mean AUC of the groups with both classes, weighted by their rows; NaN when there is none."""
    _, areas, rows = gauc_parts(label, logit, group)
    return float(areas @ rows / rows.sum()) if len(rows) else math.nan


def placements(label: Array, logit: Array) -> Array:
    """Return float64 [N], the placement values of DeLong (1988); NaN for a class without rows of the other.

    A positive's is the share of all negatives below it, a negative's the share of all positives above it, ties
    counted half; the mean over either class is the AUC.
    """
    y, z = _checked(label, logit)
    if not len(y):
        return np.zeros(0)
    order = np.argsort(z)
    positive = y[order].astype(np.float64)
    ties = _starts(z[order])
    rows = np.diff(np.append(ties, len(z)))
    positives = np.add.reduceat(positive, ties)
    negatives = rows - positives
    all_positives, all_negatives = positives.sum(), negatives.sum()
    below = (np.cumsum(negatives) - 0.5 * negatives) / (all_negatives or np.nan)
    above = 1 - (np.cumsum(positives) - 0.5 * positives) / (all_positives or np.nan)
    out = np.empty(len(z))
    out[order] = np.where(positive == 1, np.repeat(below, rows), np.repeat(above, rows))
    return out


def log_losses(label: Array, logit: Array) -> Array:
    """Return float64 [N], the log-loss of every row in nats: softplus(z) - y z, stable for every z."""
    y, z = _checked(label, logit)
    z = z.astype(np.float64)
    return np.asarray(np.maximum(z, 0) + np.log1p(np.exp(-np.abs(z))) - y * z)


def logloss(label: Array, logit: Array) -> float:
    """Return the mean log-loss in nats; NaN without rows."""
    return float(log_losses(label, logit).mean()) if len(label) else math.nan


def entropy(rate: Array | float) -> Array:
    """Return -r log r - (1 - r) log(1 - r) in nats, 0 at r = 0 and r = 1."""
    r = np.asarray(rate, np.float64)
    inside = np.where((r > 0) & (r < 1), r, 0.5)
    return np.where((r > 0) & (r < 1), -(inside * np.log(inside) + (1 - inside) * np.log1p(-inside)), 0.0)


def ne_of_sums(loss: Array | float, labels: Array | float, positives: Array | float) -> Array:
    """Return NE = log-loss / entropy of the base rate (1 is as good as the base rate), elementwise, float64.

    loss: the sum of the log-losses in nats of `labels` rows, of which `positives` are positive. NaN with one class.
    """
    rows = np.asarray(labels, np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        spread = entropy(positives / rows)
        return np.asarray(loss / rows / np.where(spread > 0, spread, np.nan))


def normalized_entropy(label: Array, logit: Array) -> float:
    """Return the NE of rows, see `ne_of_sums`; NaN with one class only."""
    return float(ne_of_sums(log_losses(label, logit).sum(), len(label), int(np.count_nonzero(label == 1))))


def probability(logit: Array) -> Array:
    """Return float64 s(z), without overflow."""
    z = np.asarray(logit, np.float64)
    small = np.exp(-np.abs(z))
    return np.asarray(np.where(z >= 0, 1.0, small) / (1 + small))


def calibration(label: Array, logit: Array) -> float:
    """Return sum of predicted probabilities / sum of labels (1 is perfect); NaN without positives."""
    y, z = _checked(label, logit)
    positives = y.sum()
    return float(probability(z).sum() / positives) if positives else math.nan


def calibration_bins(label: Array, logit: Array, bins: int = 20) -> list[tuple[float, float, int]]:
    """Return (mean predicted probability, observed rate, rows) of at most `bins` bins of equal mass, ascending.

    Rows of equal logit that a border parts count with their mean label on both sides, so row order never matters.
    """
    y, z = _checked(label, logit)
    order = np.argsort(z)
    predicted, observed, count = _bins(y[order], probability(z[order]), _starts(z[order]), bins)
    return list(zip(predicted.tolist(), observed.tolist(), count.tolist(), strict=True))


def _bins(y: Array, p: Array, ties: Array, bins: int) -> tuple[Array, Array, Array]:
    """Return the three columns of `calibration_bins` from labels and probabilities in ascending order of logit."""
    borders = np.append(ties, len(y))
    edges = np.unique(np.round(np.linspace(0, len(y), bins + 1)).astype(np.int64))
    seen = np.interp(edges, borders, np.append(0.0, np.cumsum(y))[borders])
    expected = np.append(0.0, np.cumsum(p))[edges]
    count = np.diff(edges)
    predicted, observed = (np.clip(np.diff(sums) / count, 0, 1) for sums in (expected, seen))
    return predicted, observed, count


def ece(label: Array, logit: Array, bins: int = 20) -> float:
    """Return the mean over bins of equal mass of |predicted - observed|; NaN without rows."""
    gaps = sum(rows * abs(predicted - observed) for predicted, observed, rows in calibration_bins(label, logit, bins))
    return gaps / len(label) if len(label) else math.nan


def divergence(teacher: Array, logit: Array) -> float:
    """Return the mean over rows of KL(teacher || model) in nats, both given as logits [N]; NaN without rows."""
    if not len(logit):
        return math.nan
    p, z, own = probability(teacher), logit.astype(np.float64), teacher.astype(np.float64)
    return float(np.mean(np.logaddexp(0, z) - np.logaddexp(0, own) + p * (own - z)))


def score(label: Array, logit: Array, group: Array | None = None) -> Scores:
    """Return auc, gauc, logloss, ne, calibration and ece, from one sort of the logits; GAUC is None without `group`."""
    y, z = _checked(label, logit)
    values = dict.fromkeys(("auc", "gauc", "logloss", "ne", "calibration", "ece"), math.nan)
    if len(y):
        order = np.argsort(z)
        ordered, ties, p = y[order], _starts(z[order]), probability(z[order])
        predicted, observed, count = _bins(ordered, p, ties, 20)
        positives, losses = int(y.sum()), log_losses(y, z)
        values |= {
            "auc": _auc_of_ties(ordered, ties),
            "logloss": float(losses.mean()),
            "ne": float(ne_of_sums(losses.sum(), len(y), positives)),
            "gauc": math.nan if group is None else gauc(y, z, group),
            "calibration": float(p.sum()) / positives if positives else math.nan,
            "ece": float(count @ np.abs(predicted - observed)) / len(y),
        }
    why = {name: _reason(name, label, group) for name, value in values.items() if math.isnan(value)}
    return Scores({name: None if name in why else value for name, value in values.items()}, why)


def _auc_of_ties(y: Array, ties: Array) -> float:
    """Return AUC from labels in ascending order of logit and where scores run of equal logits starts."""
    positives = np.add.reduceat(y, ties, dtype=np.float64)
    negatives = np.diff(np.append(ties, len(y))) - positives
    pairs = positives.sum() * negatives.sum()
    return float(positives @ (np.cumsum(negatives) - 0.5 * negatives) / pairs) if pairs else math.nan


def over_seeds(label: Array, logits: Sequence[Array], group: Array | None = None) -> Scores:
    """Return the means over seeds of what `score` gives, with their standard deviations; logits: [N] of scores seed.

    Whether a metric exists depends on labels and groups alone, so a metric is missing for all seeds or for none.
    """
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # numpy's sorts and sums release the interpreter lock
        scores = list(pool.map(lambda logit: score(label, logit, group), logits))
    seeds = {name: [one.values[name] for one in scores] for name in scores[0].values if name not in scores[0].why}
    known = {name: np.array(values, np.float64) for name, values in seeds.items()}
    std = {name: float(values.std(ddof=1)) for name, values in known.items() if len(values) > 1}
    return Scores(
        {name: float(known[name].mean()) if name in known else None for name in scores[0].values}, scores[0].why, std
    )


def _reason(metric: str, label: Array, group: Array | None) -> str:
    if not len(label):
        return "there are no rows"
    if metric == "gauc":
        return "no group column was given" if group is None else "no group has both a positive and a negative"
    return f"all {len(label)} labels are {int(label[0])}"

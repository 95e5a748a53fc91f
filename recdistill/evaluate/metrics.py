"""Metrics of binary predictions from raw logits: numpy, vectorised, 1.2 million rows in a fraction of a second.

label [N] holds 0 and 1, or soft labels between, logit [N] is float32 or float64, group [N] any integers, weight
float64 [N], not negative; without it every row counts 1. A row of weight w and label y counts as w rows of which the
share y are positive (see `areas`). Each function raises UserError for NaN, infinities, other labels and unequal
lengths, and returns NaN where the metric does not exist; `score` gives the reason.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from recdistill.errors import UserError
from recdistill.evaluate.areas import grouped_areas, masses
from recdistill.typing import Array

__all__ = [
    "Array",
    "Scores",
    "auc",
    "calibration",
    "calibration_bins",
    "divergence",
    "drawn_sums",
    "ece",
    "entropy",
    "gauc",
    "gauc_parts",
    "log_losses",
    "logloss",
    "mean",
    "means_of",
    "ne_of_sums",
    "normalized_entropy",
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
    """Return (label, bool where all are 0 or 1, logit as float); UserError for what no metric accepts."""
    y, z = np.asarray(label), np.asarray(logit)
    if y.ndim != 1 or y.shape != z.shape:
        raise UserError(f"metrics: labels {y.shape} and logits {z.shape} must be one-dimensional and equally long")
    if z.dtype not in (np.float32, np.float64):
        z = z.astype(np.float64)
    finite = np.isfinite(z)
    if not finite.all():
        raise UserError(f"metrics: logit {z[~finite][0]} in row {int(np.argmin(finite))}; drop rows without one")
    positive = y == 1
    if (positive | (y == 0)).all():
        return positive, z
    valid = (y >= 0) & (y <= 1)
    if not valid.all():
        raise UserError(f"metrics: label {y[~valid][0]} in row {int(np.argmin(valid))}; labels must be from 0 to 1")
    return y.astype(np.float64), z


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


def gauc_parts(label: Array, logit: Array, group: Array, weight: Array | None = None) -> tuple[Array, Array, Array]:
    """Return (code, AUC, rows, or their weight) of every group with different labels, ascending by code, ties counted
    half.

    GAUC is the mean of these AUCs weighted by rows. One sort of (group, logit, label) packed into 64 bits, no loop;
    of soft labels or with weights a sort by two keys.
    """
    y, z = _checked(label, logit)
    if len(group) != len(y):
        raise UserError(f"metrics: {len(group)} groups for {len(y)} labels")
    if not len(y):
        return np.zeros(0, np.int64), np.zeros(0), np.zeros(0, np.int64)
    if weight is not None or y.dtype != bool:
        found, (codes, first) = grouped_areas(y, z, group, weight), np.unique(group, return_index=True)
        known = np.isfinite(found.area[first])
        return codes[known], found.area[first][known], found.size[first][known]
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


def auc(label: Array, logit: Array, weight: Array | None = None) -> float:
    """Return the probability that a positive scores above a negative, ties counted half; NaN with one label only."""
    areas = gauc_parts(label, logit, np.zeros(len(label), np.int64), weight)[1]
    return float(areas[0]) if len(areas) else math.nan


def gauc(label: Array, logit: Array, group: Array, weight: Array | None = None) -> float:
    """Return the mean AUC of the groups with different labels, weighted by their rows; NaN when there is none."""
    _, areas, rows = gauc_parts(label, logit, group, weight)
    return float(areas @ rows / rows.sum()) if len(rows) else math.nan


def placements(label: Array, logit: Array, weight: Array | None = None) -> tuple[Array, Array]:
    """Return float64 [N] each, the placement values of DeLong (1988) of a row as a positive and as a negative: the
    share of all negative mass below it, and of all positive mass above it, ties counted half; NaN without any.

    The mean of the first over the positives, and of the second over the negatives, is the AUC.
    """
    y, z = _checked(label, logit)
    found = grouped_areas(y, z, np.zeros(len(y), np.int8), weight)
    return found.below, found.above


def log_losses(label: Array, logit: Array) -> Array:
    """Return float64 [N], the log-loss of every row in nats: softplus(z) - y z, stable for every z."""
    y, z = _checked(label, logit)
    z = z.astype(np.float64)
    return np.asarray(np.maximum(z, 0) + np.log1p(np.exp(-np.abs(z))) - y * z)


def mean(values: Array, weight: Array | None = None) -> float:
    """Return the mean of values [N], each counted by its weight; NaN without any."""
    if weight is not None:
        return float(weight @ values / weight.sum()) if weight.any() else math.nan
    return float(values.mean()) if len(values) else math.nan


def logloss(label: Array, logit: Array, weight: Array | None = None) -> float:
    """Return the mean log-loss in nats; NaN without rows."""
    return mean(log_losses(label, logit), weight)


def entropy(rate: Array | float) -> Array:
    """Return -r log r - (1 - r) log(1 - r) in nats, 0 at r = 0 and r = 1."""
    r = np.asarray(rate, np.float64)
    inside = np.where((r > 0) & (r < 1), r, 0.5)
    return np.where((r > 0) & (r < 1), -(inside * np.log(inside) + (1 - inside) * np.log1p(-inside)), 0.0)


def ne_of_sums(loss: Array | float, labels: Array | float, positives: Array | float) -> Array:
    """Return NE = log-loss / entropy of the base rate (1 is as good as the base rate), elementwise, float64.

    loss: the sum of the log-losses in nats of `labels` rows, of which `positives` are positive; of soft labels their
    sum: the best constant prediction is the mean label, and its loss that entropy. NaN with one class.
    """
    rows = np.asarray(labels, np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        spread = entropy(positives / rows)
        return np.asarray(loss / rows / np.where(spread > 0, spread, np.nan))


def _ne(y: Array, losses: Array, weight: Array | None) -> float:
    if weight is None:
        return float(ne_of_sums(losses.sum(), len(y), y.sum(dtype=np.float64)))
    return float(ne_of_sums(weight @ losses, weight.sum(), weight @ y))


def drawn_sums(weights: Array, sums: Array) -> Array:
    """Return float64 [replicates], the sum in every replicate, of the `sums` [bundles] of bundles that are drawn
    `weights` [replicates, bundles] times; the same to the bit for any number of threads, as no matrix product is.
    """
    return np.asarray(np.einsum("rb,b->r", weights, sums))


def normalized_entropy(label: Array, logit: Array, weight: Array | None = None) -> float:
    """Return the NE of rows, see `ne_of_sums`; NaN with one class only."""
    return _ne(np.asarray(label, np.float64), log_losses(label, logit), weight)


def probability(logit: Array) -> Array:
    """Return float64 s(z), without overflow."""
    z = np.asarray(logit, np.float64)
    small = np.exp(-np.abs(z))
    return np.asarray(np.where(z >= 0, 1.0, small) / (1 + small))


def _calibration(y: Array, p: Array, weight: Array | None) -> float:
    labels, predicted = (y.sum(), p.sum()) if weight is None else (weight @ y, weight @ p)
    return float(predicted / labels) if labels else math.nan


def calibration(label: Array, logit: Array, weight: Array | None = None) -> float:
    """Return sum of predicted probabilities / sum of labels (1 is perfect); NaN without positives."""
    y, z = _checked(label, logit)
    return _calibration(y, probability(z), weight)


def calibration_bins(
    label: Array, logit: Array, bins: int = 20, weight: Array | None = None
) -> list[tuple[float, float, int]]:
    """Return (mean predicted probability, observed rate, rows) of at most `bins` bins of as many rows, ascending.

    Rows of equal logit that a border parts count with their mean label on both sides, so row order never matters.
    """
    y, z = _checked(label, logit)
    order = np.argsort(z)
    found = _bins(y[order], probability(z[order]), _starts(z[order]), bins, _of(weight, order))
    return list(zip(*(column.tolist() for column in found[:3]), strict=True))


def _of(weight: Array | None, rows: Array) -> Array | None:
    return None if weight is None else weight[rows]


def _bins(y: Array, p: Array, ties: Array, bins: int, weight: Array | None) -> tuple[Array, Array, Array, Array]:
    """Return the three columns of `calibration_bins`, and the weight of each bin, from labels and probabilities in
    ascending order of logit.
    """
    borders = np.append(ties, len(y))
    edges = np.unique(np.round(np.linspace(0, len(y), bins + 1)).astype(np.int64))

    def within(values: Array) -> Array:
        return np.asarray(np.diff(np.interp(edges, borders, np.append(0.0, np.cumsum(values))[borders])))

    count = np.diff(edges)
    if weight is None:
        expected = np.diff(np.append(0.0, np.cumsum(p))[edges])
        predicted, observed = (np.clip(sums / count, 0, 1) for sums in (expected, within(y)))
        return predicted, observed, count, count
    mass, expected, seen = within(weight), within(weight * p), within(weight * y)
    some = mass > 0
    predicted, observed = (np.clip(sums[some] / mass[some], 0, 1) for sums in (expected, seen))
    return predicted, observed, count[some], mass[some]


def _ece(bins: tuple[Array, Array, Array, Array], total: float) -> float:
    predicted, observed, _, mass = bins
    return float(mass @ np.abs(predicted - observed)) / total


def ece(label: Array, logit: Array, bins: int = 20, weight: Array | None = None) -> float:
    """Return the mean over bins of as many rows of |predicted - observed|; NaN without rows."""
    y, z = _checked(label, logit)
    order, total = np.argsort(z), len(y) if weight is None else float(weight.sum())
    found = _bins(y[order], probability(z[order]), _starts(z[order]), bins, _of(weight, order))
    return _ece(found, total) if total else math.nan


def divergence(teacher: Array, logit: Array, weight: Array | None = None) -> float:
    """Return the mean over rows of KL(teacher || model) in nats, both given as logits [N]; NaN without rows."""
    p, z, own = probability(teacher), logit.astype(np.float64), teacher.astype(np.float64)
    return mean(np.logaddexp(0, z) - np.logaddexp(0, own) + p * (own - z), weight)


def score(label: Array, logit: Array, group: Array | None = None, weight: Array | None = None) -> Scores:
    """Return auc, gauc, logloss, ne, calibration and ece, from one sort of the logits; GAUC is None without `group`."""
    y, z = _checked(label, logit)
    values = dict.fromkeys(("auc", "gauc", "logloss", "ne", "calibration", "ece"), math.nan)
    total = len(y) if weight is None else float(weight.sum())
    if total:
        order = np.argsort(z)
        ties, p, losses = _starts(z[order]), probability(z[order]), log_losses(y, z)
        ordered = y[order], p, _of(weight, order)
        values |= {
            "auc": _auc_of_ties(y[order], ties, ordered[2]),
            "logloss": mean(losses, weight),
            "ne": _ne(y, losses, weight),
            "gauc": math.nan if group is None else gauc(y, z, group, weight),
            "calibration": _calibration(*ordered),
            "ece": _ece(_bins(y[order], p, ties, 20, ordered[2]), total),
        }
    why = {name: _reason(name, label, group) for name, value in values.items() if math.isnan(value)}
    return Scores({name: None if name in why else value for name, value in values.items()}, why)


def _auc_of_ties(y: Array, ties: Array, weight: Array | None) -> float:
    """Return AUC from labels in ascending order of logit and where runs of equal logits start; NaN with one label."""
    known = y if weight is None else y[weight > 0]
    if not len(known) or known.min() == known.max():
        return math.nan
    positives, negatives = (np.add.reduceat(mass, ties) for mass in masses(y, weight))
    return float(positives @ (np.cumsum(negatives) - 0.5 * negatives) / (positives.sum() * negatives.sum()))


def means_of(scores: Sequence[Scores]) -> Scores:
    """Return the means over seeds, with their standard deviations where there are several.

    Whether a metric exists depends on labels and groups alone, so a metric is missing for all seeds or for none.
    """
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
    return f"all {len(label)} labels are {label[0]:g}"

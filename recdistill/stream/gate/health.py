"""Whether the logits of a teacher's version are fit to learn from: a window of them is compared with approved windows.

A figure is bad beyond doubt when it lies further from the reference than a bound *and* than `sigmas` standard errors.
The rows of a log are no independent draws (a request's samples, a user's, the hours of a day), so no error here takes
them for that. It is the larger of what blocks of neighbouring rows show when each is left out in turn (the
delete-one-group jackknife: Quenouille 1956, Tukey 1958) and of how much the reference's own windows differ, scaled to
the window's rows:

    error^2 = max(jackknife^2, between^2 * reference window's rows / rows) + error of the reference itself^2

Logits are finite: the predictions table takes no others. They must be corrected to the log's own sampling before
(`recdistill.distill.debias`), for they are compared with its labels.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from recdistill.config.stream import HealthConfig
from recdistill.evaluate.metrics import ne_of_sums
from recdistill.typing import Array

__all__ = ["FIELDS", "HealthWindow", "fault_of", "measure"]

Figure = Callable[[Array], Array]  # sums [.., F] to one value each

FIELDS = ("rows", "logit", "square", "labels", "positives", "predicted", "logloss", "known", "offered")
ROWS, LOGIT, SQUARE, LABELS, POSITIVES, PREDICTED, LOGLOSS, KNOWN, OFFERED = range(len(FIELDS))
BLOCKS = 20  # of neighbouring rows in a window
MIN_BLOCKS = 8  # fewer give no usable variance
MIN_ROWS = 100  # fewer are never bad beyond doubt
MIN_OF_CLASS = 10  # positives, and negatives: fewer give no usable NE


@dataclass(frozen=True)
class HealthWindow:
    """float64 sums [B, len(FIELDS)] over blocks of neighbouring rows, in order.

    labels: rows whose label is known; positives, predicted (sum of probabilities) and logloss (nats) are over these.
    offered: samples that the stream held, known: those of them that the teacher gave a logit; both 0 where that was not
    counted.
    """

    blocks: Array

    @property
    def sums(self) -> Array:
        """Return the sums [len(FIELDS)] over all rows."""
        return np.asarray(self.blocks.sum(0))

    def __add__(self, other: HealthWindow) -> HealthWindow:
        """Return this window and a later one together."""
        return HealthWindow(np.concatenate((self.blocks, other.blocks)))

    def figures(self) -> dict[str, float | None]:
        """Return the figures for people: rows, mean, std, labels, rates, log-loss, NE, coverage; None: unknown."""
        sums = self.sums
        labels, offered = sums[LABELS], sums[OFFERED]
        found = {
            "rows": sums[ROWS],
            "mean": float(_mean(sums)),
            "std": float(_std(sums)),
            "labels": labels,
            "observed": sums[POSITIVES] / labels if labels else math.nan,
            "predicted": sums[PREDICTED] / labels if labels else math.nan,
            "logloss": sums[LOGLOSS] / labels if labels else math.nan,
            "ne": float(_ne(sums)),
            "coverage": sums[KNOWN] / offered if offered else math.nan,
        }
        return {name: float(value) if math.isfinite(value) else None for name, value in found.items()}


def measure(logits: Array, labels: Array, known: int = 0, offered: int = 0) -> HealthWindow:
    """Return the window of float [n] logits and labels (0, 1, NaN where not known yet), in order, n at least 1."""
    z, y = np.asarray(logits, np.float64), np.asarray(labels, np.float64)
    has = ~np.isnan(y)
    y = np.where(has, y, 0.0)
    against = np.logaddexp(0.0, z)  # -log(1 - p)
    columns = np.stack(
        [
            np.ones(len(z)),
            z,
            z * z,
            has,
            y,
            np.where(has, np.exp(z - against), 0.0),
            np.where(has, against - y * z, 0.0),
        ]
    )
    edges = np.unique(np.arange(BLOCKS) * len(z) // BLOCKS)
    blocks = np.zeros((len(edges), len(FIELDS)))
    blocks[:, : len(columns)] = np.add.reduceat(columns, edges, axis=1).T
    blocks[0, KNOWN], blocks[0, OFFERED] = known, offered
    return HealthWindow(blocks)


def _mean(sums: Array) -> Array:
    return np.asarray(sums[..., LOGIT] / sums[..., ROWS])


def _std(sums: Array) -> Array:
    return np.asarray(np.sqrt(np.maximum(sums[..., SQUARE] / sums[..., ROWS] - _mean(sums) ** 2, 0.0)))


def _ne(sums: Array) -> Array:
    """Return log-loss over the entropy of the base rate, NaN where a class is missing."""
    return ne_of_sums(sums[..., LOGLOSS], sums[..., LABELS], sums[..., POSITIVES])


def _jackknife(blocks: Array, figure: Figure) -> float:
    """Return the variance of `figure` over all rows, NaN for fewer than MIN_BLOCKS blocks."""
    values = figure(blocks.sum(0) - blocks)
    values = values[np.isfinite(values)]
    count = len(values)
    return float(values.var() * (count - 1)) if count >= MIN_BLOCKS else math.nan


def _error(window: HealthWindow, reference: Array, figure: Figure) -> float:
    """Return the standard error of the window's figure minus the reference's (see above); infinite where
    it cannot be estimated.
    """
    rows, sums = window.sums[ROWS], reference.sum(0)
    own = _jackknife(window.blocks, figure)
    if len(reference) < MIN_BLOCKS:
        return math.inf if math.isnan(own) else math.sqrt(own * (1 + rows / sums[ROWS]))
    values = figure(reference)
    values = values[np.isfinite(values)]
    between = float(values.var(ddof=1)) * sums[ROWS] / len(reference) / rows if len(values) >= MIN_BLOCKS else math.nan
    spread = np.array([own, between])
    of_window = float(np.nanmax(spread)) if np.isfinite(spread).any() else math.inf
    of_reference = _jackknife(reference, figure)
    return math.sqrt(of_window + (0.0 if math.isnan(of_reference) else of_reference))


def fault_of(window: HealthWindow, reference: Array, bounds: HealthConfig) -> str | None:
    """Return why students should not learn from the window's logits, one line with figures; None when it is healthy.

    reference: sums [W, len(FIELDS)] of approved windows, W may be 0: then NE and coverage are judged in absolute terms
    alone.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        found = _coverage(window, bounds) or _worse_than_base_rate(window, bounds)
        if found or not len(reference) or window.sums[ROWS] < MIN_ROWS:
            return found
        checks = (_shift, _spread, _calibration, _higher_ne)
        return next((why for check in checks if (why := check(window, reference, bounds))), None)


def _coverage(window: HealthWindow, bounds: HealthConfig) -> str | None:
    """Judge the share of samples that have a logit; its error is that of a fair coin."""
    known, offered = window.sums[KNOWN], window.sums[OFFERED]
    if offered < MIN_ROWS or known / offered >= bounds.coverage:
        return None
    if 1 - known / offered <= bounds.sigmas * math.sqrt(0.25 / offered):
        return None
    return (
        f"has logits for {known:,.0f} of {offered:,.0f} samples ({known / offered:.0%}; at least "
        f"{bounds.coverage:.0%} are wanted)"
    )


def _shift(window: HealthWindow, reference: Array, bounds: HealthConfig) -> str | None:
    now, then, std = float(_mean(window.sums)), float(_mean(reference.sum(0))), float(_std(reference.sum(0)))
    away, error = abs(now - then), _error(window, reference, _mean)
    if away <= bounds.shift * std or away <= bounds.sigmas * error:
        return None
    return (
        f"mean logit {now:.3f}, was {then:.3f} with standard deviation {std:.3f} (bound {bounds.shift:g} of it, "
        f"{_in_errors(away, error)})"
    )


def _spread(window: HealthWindow, reference: Array, bounds: HealthConfig) -> str | None:
    """Judge against the standard deviation within windows: drift of their means is not part of it."""
    now, then = float(_std(window.sums)), math.sqrt(np.average(_std(reference) ** 2, weights=reference[:, ROWS]))
    away, error = abs(now - then), _error(window, reference, _std)
    if 1 / bounds.spread * then <= now <= bounds.spread * then or away <= bounds.sigmas * error:
        return None
    return (
        f"standard deviation of the logits {now:.3f}, was {then:.3f} (bound {bounds.spread:g} times, "
        f"{_in_errors(away, error)})"
    )


def _calibration(window: HealthWindow, reference: Array, bounds: HealthConfig) -> str | None:
    """Judge predicted minus what the reference would have predicted for as many positives: linear, so it
    also holds where none were seen.
    """
    sums, before = window.sums, reference.sum(0)
    if sums[LABELS] < MIN_ROWS or before[POSITIVES] < MIN_OF_CLASS:
        return None
    then = before[PREDICTED] / before[POSITIVES]
    observed, predicted = sums[POSITIVES], sums[PREDICTED]
    if then * observed / bounds.calibration <= predicted <= then * observed * bounds.calibration:
        return None

    def excess(sums: Array) -> Array:
        return np.asarray((sums[..., PREDICTED] - then * sums[..., POSITIVES]) / sums[..., LABELS])

    away = abs(float(excess(sums)))
    by_chance = math.sqrt(then * predicted) / sums[LABELS]  # positives come at least as unevenly as a Poisson count
    error = max(_error(window, reference, excess), by_chance)
    if away <= bounds.sigmas * error:
        return None
    return (
        f"predicts {predicted:,.1f} positives where {observed:,.0f} were seen, before {then:.2f} for each "
        f"(bound {bounds.calibration:g} times, {_in_errors(away, error)})"
    )


def _enough_labels(sums: Array) -> bool:
    return bool(min(sums[POSITIVES], sums[LABELS] - sums[POSITIVES]) >= MIN_OF_CLASS and sums[LABELS] >= MIN_ROWS)


def _higher_ne(window: HealthWindow, reference: Array, bounds: HealthConfig) -> str | None:
    if not (_enough_labels(window.sums) and _enough_labels(reference.sum(0))):
        return None
    now, then = float(_ne(window.sums)), float(_ne(reference.sum(0)))
    error = _error(window, reference, _ne)
    if now - then <= bounds.ne or now - then <= bounds.sigmas * error:
        return None
    return f"NE {now:.3f}, was {then:.3f} (bound {bounds.ne:g} above, {_in_errors(now - then, error)})"


def _worse_than_base_rate(window: HealthWindow, bounds: HealthConfig) -> str | None:
    if not _enough_labels(window.sums):
        return None
    now, variance = float(_ne(window.sums)), _jackknife(window.blocks, _ne)
    if now - 1 <= bounds.ne or math.isnan(variance) or now - 1 <= bounds.sigmas * math.sqrt(variance):
        return None
    doubt = _in_errors(now - 1, math.sqrt(variance))
    return f"NE {now:.3f}: worse than the base rate alone (bound {1 + bounds.ne:g}, {doubt})"


def _in_errors(away: float, error: float) -> str:
    return f"{away / error:.1f} standard errors" if error > 0 else "beyond doubt"

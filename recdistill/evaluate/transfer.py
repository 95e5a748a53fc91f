"""Transferability with its interval: eta = (P_distilled - P_raw) / (P_teacher - P_raw), bootstrapped by user and seed.

A replicate draws users with replacement (Poisson weights) and seeds with replacement, the pairs kept. Metrics are
ratios of sums over users, so a replicate is a matrix product:
  GAUC  exactly: sum of AUC x rows over groups / sum of rows;
  NE    exactly: sum of log-loss / (rows x entropy of the replicate's base rate);
  AUC   to first order: its placements (Hajek projection) are summed by user around the full-sample value.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from recdistill.evaluate import metrics

__all__ = ["Samples", "Transferred", "bootstrap", "transferability"]

Array = np.ndarray[Any, np.dtype[Any]]
NAMES = ("auc", "gauc", "ne")


@dataclass(frozen=True)
class Samples:
    """The scored window: label float [N], user int codes [N] from 0, group int [N]."""

    label: Array
    user: Array
    group: Array

    @property
    def users(self) -> int:
        """Return the number of users."""
        return int(self.user.max()) + 1 if len(self.user) else 0


@dataclass(frozen=True)
class Transferred:
    """One metric's answer; eta, low and high are None, and why says so, when it is withheld. gain: distilled - raw."""

    eta: float | None
    low: float | None
    high: float | None
    teacher_gain: float
    gain: float
    gain_low: float
    gain_high: float
    why: str | None


def _by_user(samples: Samples, values: Array) -> Array:
    return np.asarray(np.bincount(samples.user, values, minlength=samples.users))


def _auc(samples: Samples, logit: Array, weights: Array) -> Array:
    """Return [1 + n]: the AUC and its replicates."""
    placed = metrics.placements(samples.label, logit)
    whole = metrics.auc(samples.label, logit)
    positive = samples.label == 1
    total = np.full(len(weights), whole)
    for side in (positive, ~positive):
        summed, count = _by_user(samples, (placed - whole) * side), _by_user(samples, side.astype(float))
        total += (weights @ summed) / np.maximum(weights @ count, 1)
    return np.r_[whole, total]


def _gauc(samples: Samples, logit: Array, weights: Array) -> Array:
    group, within, rows = metrics.gauc_parts(samples.label, logit, samples.group)
    first = np.zeros(int(samples.group.max()) + 1, np.int64)
    first[samples.group] = samples.user
    owner = first[group]
    top, bottom = (np.bincount(owner, v, minlength=samples.users) for v in (within * rows, rows.astype(float)))
    return (
        np.r_[top.sum() / bottom.sum(), (weights @ top) / np.maximum(weights @ bottom, 1e-9)]
        if len(rows)
        else np.full(len(weights) + 1, np.nan)
    )


def _minus_ne(samples: Samples, logit: Array, weights: Array) -> Array:
    loss, rows = _by_user(samples, metrics.log_losses(samples.label, logit)), _by_user(samples, np.ones(len(logit)))
    positives = _by_user(samples, samples.label)
    everyone = np.vstack([np.ones(samples.users), weights])
    n = np.maximum(everyone @ rows, 1)
    rate = np.clip((everyone @ positives) / n, 1e-12, 1 - 1e-12)
    return np.asarray(-(everyone @ loss) / n / -(rate * np.log(rate) + (1 - rate) * np.log(1 - rate)))


def bootstrap(samples: Samples, logit: Array, weights: Array) -> dict[str, Array]:
    """Return per metric [1 + n]: its value (larger is better: minus NE), then one per row of `weights` [n, users]."""
    return {
        "auc": _auc(samples, logit, weights),
        "gauc": _gauc(samples, logit, weights),
        "ne": _minus_ne(samples, logit, weights),
    }


def transferability(samples: Samples, teacher: Array, raw: list[Array], distilled: list[Array], *, replicates: int,
                    confidence: float, seed: int = 0) -> dict[str, Transferred]:  # fmt: skip
    """Return eta per metric from logits [N]: one teacher, and raw and distilled students paired by seed."""
    draw = np.random.default_rng(seed)
    weights = draw.poisson(1.0, (replicates, samples.users)).astype(np.float32)
    picks = draw.integers(0, len(raw), (replicates, len(raw)))
    said = bootstrap(samples, teacher, weights)
    before, after = ([bootstrap(samples, logit, weights) for logit in models] for models in (raw, distilled))

    def seeds(models: list[dict[str, Array]], name: str) -> Array:
        table = np.stack([model[name] for model in models])  # [seeds, 1 + n]
        return np.asarray(np.r_[table[:, 0].mean(), table[picks.T, np.arange(1, replicates + 1)].mean(0)])

    return {
        name: _answer(said[name], seeds(before, name), seeds(after, name), len(raw), samples.users, confidence)
        for name in NAMES
    }


def _answer(teacher: Array, raw: Array, distilled: Array, seeds: int, users: int, confidence: float) -> Transferred:
    tails = [50 * (1 - confidence), 50 * (1 + confidence)]
    teacher_gain, gain = teacher - raw, distilled - raw
    low, high = np.percentile(teacher_gain[1:], tails)
    gain_low, gain_high = np.percentile(gain[1:], tails)
    rest = (float(teacher_gain[0]), float(gain[0]), float(gain_low), float(gain_high))
    why = _withheld(float(teacher_gain[0]), float(low), float(high), seeds, users)
    if why:
        return Transferred(None, None, None, *rest, why)
    eta = gain / np.where(teacher_gain == 0, np.nan, teacher_gain)
    eta_low, eta_high = np.nanpercentile(eta[1:], tails)
    return Transferred(float(eta[0]), float(eta_low), float(eta_high), *rest, None)


def _withheld(gain: float, low: float, high: float, seeds: int, users: int) -> str | None:
    if not np.isfinite(gain):
        return "the metric is not defined on this window"
    if users < 2 or seeds < 2:
        return f"an interval needs at least 2 users and 2 seeds; there are {users} and {seeds}"
    if gain <= 0:
        return f"the teacher is not better than the raw student (gain {gain:+.4f})"
    if low <= 0:
        return f"the teacher's gain is inside the noise ({gain:+.4f}, interval {low:+.4f} to {high:+.4f})"
    return None

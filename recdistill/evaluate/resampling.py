"""Eta's interval where others than users are drawn: items, and stretches of time, whose shocks many users share.

Groups of one user's rows span items and stretches, so the replicates here are of first order in the weights of rows:
metric(w) = metric + sum of (w_i - 1) x influence_i (the infinitesimal jackknife), one matrix product as with users.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from recdistill.evaluate import metrics
from recdistill.evaluate.transferability import Draws, EtaEstimate, ScoredSamples, estimate_of, user_weights
from recdistill.typing import Array

__all__ = ["TIME_BLOCKS", "group_placements", "influences", "time_blocks", "transferability_by"]

TIME_BLOCKS = 50


def time_blocks(rows: int) -> Array:
    """Return int64 [rows], the stretch of each row of a log in order of time: at most TIME_BLOCKS of as many rows."""
    return np.arange(rows) * min(TIME_BLOCKS, rows) // max(rows, 1)


def group_placements(label: Array, logit: Array, group: Array) -> tuple[Array, Array, Array, Array]:
    """Return float64 [N] each: `metrics.placements` within the row's group, the group's AUC, and how many rows of the
    row's own class and of the other it has; placements and AUC are NaN in groups of one class.
    """
    order = np.lexsort((logit, group))
    y, z, g = label[order].astype(np.float64), logit[order], group[order]
    if not len(y):
        return tuple(np.zeros((4, 0)))  # type: ignore[return-value]
    new_group = np.r_[True, g[1:] != g[:-1]]
    ties = np.flatnonzero(new_group | np.r_[True, z[1:] != z[:-1]])
    of, runs = np.cumsum(new_group) - 1, np.diff(np.r_[ties, len(y)])
    positives = np.add.reduceat(y, ties)
    negatives = runs - positives
    group_of_tie = of[ties]
    all_positives, all_negatives = np.bincount(of, y), np.bincount(of, 1 - y)
    earlier_positives = np.r_[0.0, np.cumsum(all_positives)[:-1]][group_of_tie]
    earlier_negatives = np.r_[0.0, np.cumsum(all_negatives)[:-1]][group_of_tie]
    with np.errstate(divide="ignore", invalid="ignore"):
        below = (np.cumsum(negatives) - 0.5 * negatives - earlier_negatives) / all_negatives[group_of_tie]
        above = 1 - (np.cumsum(positives) - 0.5 * positives - earlier_positives) / all_positives[group_of_tie]
        placed = np.where(y == 1, np.repeat(below, runs), np.repeat(above, runs))
        area = (np.bincount(of, np.where(y == 1, placed, 0.0)) / all_positives)[of]
    own = np.where(y == 1, all_positives[of], all_negatives[of])
    other = np.where(y == 1, all_negatives[of], all_positives[of])
    found = np.empty((4, len(y)))
    found[:, order] = np.where(np.isfinite(area), placed, np.nan), area, own, other
    return found[0], found[1], found[2], found[3]


def influences(samples: ScoredSamples, logit: Array) -> dict[str, tuple[float, Array]]:
    """Return per metric (auc, gauc, ne; larger is better) its value and float64 [N], each row's influence on it."""
    label, rows = samples.label, len(samples.label)
    positive = label == 1
    with np.errstate(divide="ignore", invalid="ignore"):
        placed = metrics.placements(label, logit)
        area = placed[positive].sum() / positive.sum()
        by_row = (placed - area) / np.where(positive, positive.sum(), rows - positive.sum())
        loss, rate = metrics.log_losses(label, logit), positive.sum() / max(rows, 1)
        spread = float(metrics.entropy(rate)) or np.nan
        ne = loss.mean() / spread if rows else np.nan
        slope = np.log1p(-rate) - np.log(rate)
        of_ne = (loss / spread - ne - ne * slope * (label - rate) / spread) / max(rows, 1)
    gauc, of_gauc = _gauc(samples, logit)
    return {"auc": (float(area), by_row), "gauc": (gauc, of_gauc), "ne": (-float(ne), -of_ne)}


def _gauc(samples: ScoredSamples, logit: Array) -> tuple[float, Array]:
    """Return GAUC and each row's influence on it: what it adds to its group's size, and to its group's AUC."""
    placed, area, own, other = group_placements(samples.label, logit, samples.group)
    counted = np.isfinite(area)
    total = counted.sum()
    whole = float(area[counted].sum() / total) if total else float("nan")
    with np.errstate(divide="ignore", invalid="ignore"):
        found = (area - whole + (own + other) * (placed - area) / own) / total
    return whole, np.where(counted, found, 0.0)


def transferability_by(
    samples: ScoredSamples,
    units: Mapping[str, Array],
    models: tuple[Sequence[Array], Sequence[Array], Sequence[Array]],
    drawn: Draws,
    confidence: float,
) -> dict[str, dict[str, EtaEstimate]]:
    """Return eta by metric and by what is drawn.

    units: int codes [N] from 0 of each row, by name; models: logits [N] of teachers, raw and distilled students, as
    `transferability` takes them, whose draws of seeds are used again. Memory O(N), whatever the number of models.
    """
    counts = {unit: int(codes.max(initial=-1)) + 1 for unit, codes in units.items()}
    draws = {
        unit: user_weights(count, len(drawn.weights) - 1, np.random.default_rng(0)) for unit, count in counts.items()
    }
    found: dict[str, dict[str, list[Array]]] = {name: {unit: [] for unit in units} for name in ("auc", "gauc", "ne")}
    for logit in (logit for logits in models for logit in logits):
        for name, (value, by_row) in influences(samples, logit).items():
            for unit, (bundle, weights) in draws.items():
                sums = np.bincount(bundle[units[unit]], by_row, weights.shape[1])
                found[name][unit].append(value + (weights - 1) @ sums)
    return {
        name: {unit: estimate_of(np.stack(values), drawn, counts[unit], confidence) for unit, values in by.items()}
        for name, by in found.items()
    }

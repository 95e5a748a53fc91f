"""Eta's interval where others than users are drawn: items, and stretches of time, whose shocks many users share.

Groups of one user's rows span items and stretches, so the replicates here are of first order in the weights of rows:
metric(w) = metric + sum of (w_i - 1) x influence_i (the infinitesimal jackknife), one matrix product as with users.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from recdistill.evaluate import metrics, values
from recdistill.evaluate.areas import grouped_areas, masses
from recdistill.evaluate.transferability import Draws, EtaEstimate, ScoredSamples, estimate_of, user_weights
from recdistill.typing import Array

__all__ = ["TIME_BLOCKS", "influences", "time_blocks", "transferability_by"]

TIME_BLOCKS = 50


def time_blocks(rows: int) -> Array:
    """Return int64 [rows], the stretch of each row of a log in order of time: at most TIME_BLOCKS of as many rows."""
    return np.arange(rows) * min(TIME_BLOCKS, rows) // max(rows, 1)


def influences(samples: ScoredSamples, logit: Array) -> dict[str, tuple[float, Array]]:
    """Return per metric (auc, gauc, ne, of a regression xauc, mae, rmse; larger is better) its value and float64 [N],
    each row's influence on it.
    """
    if samples.regression:
        return values.influences(samples.label, logit, samples.weight)
    label, (pos, neg) = samples.label, masses(samples.label, samples.weight)
    weight = np.ones(len(label)) if samples.weight is None else samples.weight
    total = weight.sum()
    with np.errstate(divide="ignore", invalid="ignore"):
        below, above = metrics.placements(label, logit, samples.weight)
        area = np.where(pos > 0, pos * below, 0.0).sum() / pos.sum()
        by_row = pos * (below - area) / pos.sum() + neg * (above - area) / neg.sum()
        loss, rate = metrics.log_losses(label, logit), pos.sum() / (total or np.nan)
        spread = float(metrics.entropy(rate)) or np.nan
        ne = (weight * loss).sum() / total / spread if total else np.nan
        slope = np.log1p(-rate) - np.log(rate)
        of_ne = weight * (loss / spread - ne - ne * slope * (label - rate) / spread) / (total or 1.0)
    gauc, of_gauc = _gauc(samples, logit, pos, neg, weight)
    return {"auc": (float(area), by_row), "gauc": (gauc, of_gauc), "ne": (-float(ne), -of_ne)}


def _gauc(samples: ScoredSamples, logit: Array, pos: Array, neg: Array, weight: Array) -> tuple[float, Array]:
    """Return GAUC and each row's influence on it: what it adds to its group's size, and to its group's AUC."""
    of = grouped_areas(samples.label, logit, samples.group, samples.weight)
    counted = np.isfinite(of.area)
    total = weight[counted].sum()
    whole = float((weight * of.area)[counted].sum() / total) if total else float("nan")
    with np.errstate(divide="ignore", invalid="ignore"):
        within = pos * (of.below - of.area) / of.positives + neg * (of.above - of.area) / of.negatives
        found = (weight * (of.area - whole) + of.size * within) / total
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
    names = ("xauc", "mae", "rmse") if samples.regression else ("auc", "gauc", "ne")
    found: dict[str, dict[str, list[Array]]] = {name: {unit: [] for unit in units} for name in names}
    for logit in (logit for logits in models for logit in logits):
        for name, (value, by_row) in influences(samples, logit).items():
            for unit, (bundle, weights) in draws.items():
                sums = np.bincount(bundle[units[unit]], by_row, weights.shape[1])
                found[name][unit].append(value + (weights - 1) @ sums)
    return {
        name: {unit: estimate_of(np.stack(drawn_so), drawn, counts[unit], confidence) for unit, drawn_so in by.items()}
        for name, by in found.items()
    }

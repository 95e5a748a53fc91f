"""Eta's interval where others than users are drawn: items, and stretches of time, whose shocks many users share.

Groups of one user's rows span items and stretches, so the replicates here are of first order in the weights of rows:
metric(w) = metric + sum of (w_i - 1) x influence_i (the infinitesimal jackknife), one matrix product as with users.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from recdistill.evaluate import metrics, values
from recdistill.evaluate.areas import grouped_areas, masses
from recdistill.evaluate.transferability import (
    Draws,
    EtaEstimate,
    ScoredSamples,
    estimate_of,
    user_weights,
)
from recdistill.typing import Array

__all__ = ["TIME_BLOCKS", "UnitDraws", "drawn_by", "influences", "time_blocks", "transferability_by"]

TIME_BLOCKS = 50


def time_blocks(rows: int) -> Array:
    """Return int64 [rows], the stretch of each row of a log in order of time: at most TIME_BLOCKS of as many rows."""
    return np.arange(rows) * min(TIME_BLOCKS, rows) // max(rows, 1)


def influences(samples: ScoredSamples, logit: Array) -> Iterator[tuple[str, float, Array]]:
    """Yield each metric (auc, gauc, ne, of a regression xauc, mae, rmse; larger is better), its value and float64 [N],
    each row's influence on it; one after the other, as those of many million rows take gigabytes.
    """
    if samples.regression:
        for name, (value, by_row) in values.influences(samples.label, logit, samples.weight).items():
            yield name, value, by_row
        return
    for name, of in (("auc", _auc), ("gauc", _gauc), ("ne", _minus_ne)):
        yield name, *of(samples, logit)


def _auc(samples: ScoredSamples, logit: Array) -> tuple[float, Array]:
    """Return AUC and each row's influence on it."""
    pos, neg = masses(samples.label, samples.weight)
    with np.errstate(divide="ignore", invalid="ignore"):
        below, above = metrics.placements(samples.label, logit, samples.weight)
        area = np.where(pos > 0, pos * below, 0.0).sum() / pos.sum()
        return float(area), pos * (below - area) / pos.sum() + neg * (above - area) / neg.sum()


def _minus_ne(samples: ScoredSamples, logit: Array) -> tuple[float, Array]:
    """Return minus NE and each row's influence on it."""
    label, weight = samples.label, _weights(samples)
    total = weight.sum()
    with np.errstate(divide="ignore", invalid="ignore"):
        loss, rate = metrics.log_losses(label, logit), masses(label, samples.weight)[0].sum() / (total or np.nan)
        spread = float(metrics.entropy(rate)) or np.nan
        ne = (weight * loss).sum() / total / spread if total else np.nan
        slope = np.log1p(-rate) - np.log(rate)
        of_ne = weight * (loss / spread - ne - ne * slope * (label - rate) / spread) / (total or 1.0)
    return -float(ne), -of_ne


def _weights(samples: ScoredSamples) -> Array:
    return np.ones(len(samples.label)) if samples.weight is None else samples.weight


def _gauc(samples: ScoredSamples, logit: Array) -> tuple[float, Array]:
    """Return GAUC and each row's influence on it: what it adds to its group's size, and to its group's AUC."""
    of, weight = grouped_areas(samples.label, logit, samples.group, samples.weight), _weights(samples)
    pos, neg = masses(samples.label, samples.weight)
    counted = np.isfinite(of.area)
    total = weight[counted].sum()
    whole = float((weight * of.area)[counted].sum() / total) if total else float("nan")
    with np.errstate(divide="ignore", invalid="ignore"):
        within = pos * (of.below - of.area) / of.positives + neg * (of.above - of.area) / of.negatives
        found = (weight * (of.area - whole) + of.size * within) / total
    return whole, np.where(counted, found, 0.0)


@dataclass(frozen=True)
class UnitDraws:
    """How many there are to draw, and per metric a model's float64 [replicates]."""

    units: int
    values: dict[str, Array]


def drawn_by(samples: ScoredSamples, logit: Array, units: Mapping[str, Array], replicates: int) -> dict[str, UnitDraws]:
    """Return one model's replicates by what is drawn. units: int codes [N] from 0 of each row, by name."""
    counts = {name: int(codes.max(initial=-1)) + 1 for name, codes in units.items()}
    draws = {name: user_weights(count, replicates, np.random.default_rng(0)) for name, count in counts.items()}
    bundles = {name: draws[name][0][codes] for name, codes in units.items()}
    found: dict[str, dict[str, Array]] = {name: {} for name in units}
    for metric, value, by_row in influences(samples, logit):
        for name, (_, weights) in draws.items():
            sums = np.bincount(bundles[name], by_row, weights.shape[1])
            found[name][metric] = value + metrics.drawn_sums(weights, sums) - sums.sum()
    return {name: UnitDraws(counts[name], values) for name, values in found.items()}


def transferability_by(
    models: Sequence[Mapping[str, UnitDraws]], drawn: Draws, confidence: float
) -> dict[str, dict[str, EtaEstimate]]:
    """Return eta by metric and by what is drawn, of teachers, raw and distilled students as `drawn_by` gives each of
    them; the draws of seeds are those of `drawn`.
    """
    first = models[0]
    names = list(next(iter(first.values())).values)

    def eta(metric: str, unit: str) -> EtaEstimate:
        values = np.stack([one[unit].values[metric] for one in models])
        return estimate_of(values, drawn, first[unit].units, confidence)

    return {metric: {unit: eta(metric, unit) for unit in first} for metric in names}

"""NDCG of labels with several levels: how well the expected level orders the rows of each user or request."""

from __future__ import annotations

import math

import numpy as np

from recdistill.errors import UserError
from recdistill.typing import Array

__all__ = ["ndcg"]


def ndcg(grade: Array, score: Array, group: Array, weight: Array | None = None) -> float:
    """Return the mean NDCG of the groups with a grade above 0, whole lists, each group alike; NaN without any.

    grade: [N], whole numbers from 0; score: [N], larger is first; group: int [N]. A row gains 2^grade - 1, times its
    weight, over log2(1 + rank) (Burges et al., ICML 2005); rows of one score have the mean of their ranks' discounts,
    as if in random order. UserError for scores that are not finite.
    """
    if not np.isfinite(score).all():
        raise UserError(f"metrics: score {score[~np.isfinite(score)][0]}; drop rows without one")
    gain = np.exp2(np.asarray(grade, np.float64)) - 1
    gain = gain if weight is None else gain * weight
    codes = np.unique(group, return_inverse=True)[1]
    best, found = (_dcg(gain, by, codes) for by in (gain, score))
    counted = best > 0
    return float((found[counted] / best[counted]).mean()) if counted.any() else math.nan


def _dcg(gain: Array, score: Array, group: Array) -> Array:
    """Return float64 [groups]: the discounted gain of each group's rows, by falling score; group: codes from 0."""
    if not len(gain):
        return np.zeros(0)
    order = np.lexsort((-score, group))
    g, z = group[order], score[order]
    new = np.r_[True, g[1:] != g[:-1]]
    rank = np.arange(len(g)) - np.flatnonzero(new)[np.cumsum(new) - 1]
    ties = np.flatnonzero(new | np.r_[True, z[1:] != z[:-1]])
    runs = np.diff(np.r_[ties, len(g)])
    discount = np.repeat(np.add.reduceat(1 / np.log2(rank + 2), ties) / runs, runs)
    return np.bincount(g, gain[order] * discount)

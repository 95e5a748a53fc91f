"""Areas under ROC curves where a row is a positive of one mass and a negative of another.

A row of weight w and label y from 0 to 1 is a positive of mass w y and a negative of mass w (1 - y), of one logit: it
counts as w rows of which the share y are positive. Then AUC is the mass of pairs (positive above negative, ties counted
half) of all pairs; of labels 0 and 1 and equal weights it is what it always was, to the last bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np

from recdistill.typing import Array

__all__ = ["GroupedAreas", "grouped_areas", "masses"]


@dataclass(frozen=True)
class GroupedAreas:
    """float64 [N] each: of the row's group the AUC, its positive, its negative mass and all of it; `below`, the share
    of the negative mass below the row's logit, and `above`, that of the positive mass above it, ties counted half.

    area: NaN in a group whose rows all have one label: it says nothing of any order.
    """

    area: Array
    positives: Array
    negatives: Array
    size: Array
    below: Array
    above: Array


def masses(label: Array, weight: Array | None) -> tuple[Array, Array]:
    """Return float64 [N] each: the positive and the negative mass of rows; every weight is 1 without any."""
    y = np.asarray(label, np.float64)
    return (y, 1 - y) if weight is None else (weight * y, weight * (1 - y))


def _differ(label: Array, weight: Array | None, starts: Array) -> Array:
    """Return bool [groups]: whether the rows with a weight have different labels, in groups that begin at `starts`."""
    counts = True if weight is None else weight > 0
    least = np.minimum.reduceat(np.where(counts, label, np.inf), starts)
    return np.asarray(least < np.maximum.reduceat(np.where(counts, label, -np.inf), starts))


def grouped_areas(label: Array, logit: Array, group: Array, weight: Array | None = None) -> GroupedAreas:
    """Return the AUC of every row's group and the row's place in it, from one sort; all arrays are [N]."""
    if not len(label):
        return GroupedAreas(*np.zeros((6, 0)))
    order = np.argsort(logit) if group.min() == group.max() else np.lexsort((logit, group))
    of, (area, positives, negatives), below, above = _sorted_areas(
        np.asarray(label, np.float64)[order], logit[order], group[order], None if weight is None else weight[order]
    )

    def back(values: Array) -> Array:  # one by one: many million rows are scored at once
        found = np.empty(len(order))
        found[order] = values
        return found

    of_groups = (values[of] for values in (area, positives, negatives, positives + negatives))
    return GroupedAreas(*map(back, chain(of_groups, (below, above))))


def _sorted_areas(y: Array, z: Array, g: Array, w: Array | None) -> tuple[Array, Sequence[Array], Array, Array]:
    """Return of rows in order of group and logit: the place of each row's group, int64 [N]; AUC, positive and negative
    mass of every group; and the shares `below` and `above` of each row.
    """
    pos, neg = masses(y, w)
    new_group = np.r_[True, g[1:] != g[:-1]]
    starts, of = np.flatnonzero(new_group), np.cumsum(new_group) - 1
    ties = np.flatnonzero(new_group | np.r_[True, z[1:] != z[:-1]])
    runs, of_tie = np.diff(np.r_[ties, len(y)]), of[ties]
    all_pos, all_neg = np.bincount(of, pos), np.bincount(of, neg)
    with np.errstate(divide="ignore", invalid="ignore"):
        mass_below = _middle(neg, ties) - np.r_[0.0, np.cumsum(all_neg)[:-1]][of_tie]
        above = 1 - (_middle(pos, ties) - np.r_[0.0, np.cumsum(all_pos)[:-1]][of_tie]) / all_pos[of_tie]
        below, above = np.repeat(mass_below / all_neg[of_tie], runs), np.repeat(above, runs)
        area = np.bincount(of_tie, np.add.reduceat(pos, ties) * mass_below) / (all_pos * all_neg)
    area = np.where((all_pos > 0) & (all_neg > 0) & _differ(y, w, starts), area, np.nan)
    return of, (area, all_pos, all_neg), below, above


def _middle(mass: Array, ties: Array) -> Array:
    """Return [ties]: the mass up to the middle of every run of equal rows, which begin at `ties`."""
    of_tie = np.add.reduceat(mass, ties)
    return np.asarray(np.cumsum(of_tie) - 0.5 * of_tie)

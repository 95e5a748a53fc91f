"""Numbers to buckets: a model sees a numeric feature as the bucket that its value falls into.

The edges are chosen once, from the first rows of a log, so that each bucket holds about as many of them. Beyond those
rows' values buckets double in width, so that what grows with time does not end in one bucket.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from recdistill.typing import Array

__all__ = ["ANY_SCALE", "BUCKETS", "MISSING", "bucket_of", "fitted_edges"]

BUCKETS = 32  # that share the values, those of values that stand alone not counted
DOUBLINGS = 24  # of the width, on either side
MISSING = -1
# Where nothing is known of the values: half-octaves from a thousandth on, of either sign.
_OCTAVES = 2.0 ** np.arange(-10, 40.5, 0.5)
ANY_SCALE = tuple(float(edge) for edge in np.concatenate((-_OCTAVES[::-1], _OCTAVES)))


def bucket_of(values: Array, edges: Sequence[float] | Array) -> Array:
    """Return int64 [n]: how many of the ascending `edges` are at most the value; MISSING for NaN and infinities."""
    found = np.asarray(edges).searchsorted(values, side="right")
    found[~np.isfinite(values)] = MISSING
    return found


def fitted_edges(values: Array) -> tuple[float, ...]:
    """Return the edges for a feature of which `values` [n] came first; ANY_SCALE where none of them is finite.

    Each of up to BUCKETS distinct values has a bucket of its own. Of more, those that are more than a BUCKETS-th of all
    have, and the others share BUCKETS buckets evenly.
    """
    finite = np.asarray(values, np.float64)[np.isfinite(values)]
    if not len(finite):
        return ANY_SCALE
    distinct, counts = np.unique(finite, return_counts=True)
    inner = distinct if len(distinct) <= BUCKETS else _shared(distinct, counts)
    steps = _steps(inner)
    edges = np.unique(np.concatenate((inner[0] - steps, inner, inner[-1] + steps)))
    return tuple(float(edge) for edge in edges)


def _shared(distinct: Array, counts: Array) -> Array:
    """Return ascending edges at values: quantiles of those that are not frequent, and around each that is."""
    frequent = counts * BUCKETS > counts.sum()
    place = np.flatnonzero(frequent)
    alone = distinct[np.concatenate((place, place[place + 1 < len(distinct)] + 1))]
    below = np.cumsum(np.where(frequent, 0, counts))
    cuts = np.searchsorted(below, below[-1] * np.arange(1, BUCKETS) / BUCKETS, side="right")
    return np.unique(np.concatenate((distinct[cuts.clip(max=len(distinct) - 1)], alone)))


def _steps(inner: Array) -> Array:
    """Return how far beyond the outer edges further ones lie: doublings of the span, of any scale where it is 0."""
    span = inner[-1] - inner[0]
    if span > 0:
        return np.asarray(span * 2.0 ** np.arange(DOUBLINGS))
    return np.asarray((abs(inner[0]) or 1.0) * 2.0 ** np.arange(-DOUBLINGS, DOUBLINGS))

"""Numbers of a sample that a model reads as they are: what is known of its user's and its item's outcomes, then whether
the user's history has the item already (`repeats`).

Of outcomes, per side, of n labels known strictly before the sample's time, p of them positive:

    log((p + PRIOR) / (n - p + PRIOR))    log-odds of the mean outcome, near 0 for few labels
    log(1 + n) / SPAN                     how much is known: 1 at 3,000 labels
"""

from __future__ import annotations

import numpy as np

from recdistill.data.batch.repeats import REPEATS
from recdistill.data.store.outcome_counts import SIDES
from recdistill.typing import Array

__all__ = ["COUNTS", "NUMBERS", "PRIOR", "SPAN", "numbers_of", "outcome_numbers"]

COUNTS = 2 * len(SIDES)
NUMBERS = COUNTS + REPEATS
PRIOR = 2.0  # positives and negatives that a user or an item starts with, each
SPAN = 8.0


def numbers_of(counts: Array, repeats: Array) -> Array:
    """Return float32 [B, NUMBERS] of counts int [B, COUNTS], (labels, positives) per side, and repeats float32 [B,
    REPEATS]; always finite.
    """
    found = np.empty((len(counts), NUMBERS), np.float32)
    found[:, :COUNTS] = outcome_numbers(counts)
    found[:, COUNTS:] = repeats
    return found


def outcome_numbers(counts: Array) -> Array:
    """Return float64 [n, 2 S] of counts int [n, 2 S] of S sides, as they stand at the front of `numbers_of`."""
    known = counts.astype(np.float64)
    labels, positives = known[:, 0::2], known[:, 1::2]
    negatives = np.maximum(labels - positives, 0)
    found = np.empty_like(known)
    found[:, 0::2] = np.log((positives + PRIOR) / (negatives + PRIOR))
    found[:, 1::2] = np.log1p(labels) / SPAN
    return found

"""What one student's scores have over another's: paired by user and by seed, as in transferability.py."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from recdistill.config.base import Strict
from recdistill.evaluate.transferability import Draws, ScoredSamples, bootstrap, bootstrap_gauc, over_seeds
from recdistill.typing import Array

__all__ = ["Difference", "difference"]


class Difference(Strict):
    """How much better one student is than another on a metric (lower NE is better), with its interval."""

    value: float
    low: float
    high: float


def difference(
    samples: ScoredSamples,
    base: Sequence[Array],
    other: Sequence[Array],
    metric: str,
    drawn: Draws,
    confidence: float,
) -> Difference | None:
    """Return what `other` has over `base`, logits [N] of the same seeds in the same order; None where the metric is
    undefined on these rows. drawn: for as many students as there are seeds.
    """
    logits = [*base, *other]
    if metric == "gauc":
        values = bootstrap_gauc(samples, logits, drawn.bundle, drawn.weights)
    else:
        values = bootstrap(samples, logits, drawn.bundle, drawn.weights)[metric]
    found = over_seeds(values[len(base) :] - values[: len(base)], drawn.students)
    if not np.isfinite(found[0]):
        return None
    low, high = np.nanquantile(found[1:], [(1 - confidence) / 2, (1 + confidence) / 2])
    return Difference(value=float(found[0]), low=float(low), high=float(high))

"""Which seeds of a student diverged, by a rule that is fixed before anything is scored.

A single raw seed with an NE of 0.885 where the others have 0.80 lowers the mean of the raw students, and so inflates
every gain over it. The rule is about NE alone, never about eta: NE_s - median > max(LEAST, SIGMAS x 1.4826 x MAD), over
the seeds of one student, raw or distilled; MAD is the median distance to the median, and 1.4826 MAD the standard
deviation of Gaussian seeds. Of fewer than 3 seeds nobody can say which one is off.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from recdistill.evaluate.summary import LeftOut

__all__ = ["diverged", "left_out"]

LEAST = 0.02  # of NE: closer seeds are alike, however close the others are to each other
SIGMAS = 6.0


def diverged(values: Sequence[float]) -> list[int]:
    """Return the places of the seeds whose NE lies above the others' by the rule of this module; never of most."""
    known = np.array(values, np.float64)
    if len(known) < 3 or not np.isfinite(known).all():
        return []
    above = known - np.median(known)
    return np.flatnonzero(above > max(LEAST, SIGMAS * 1.4826 * float(np.median(np.abs(above))))).tolist()


def left_out(seeds: Sequence[int], ne: dict[str, list[float]]) -> list[LeftOut]:
    """Return the seeds that diverged, raw or distilled; both twins of such a seed are left out of every figure.

    ne: of "raw" and "distilled", of each of `seeds`.
    """
    found = []
    for variant, values in ne.items():
        for place in diverged(values):
            usual = float(np.median(values))
            one = {"seed": seeds[place], "variant": variant, "ne": values[place], "median": usual}
            found.append(LeftOut.model_validate(one))
    return found

"""Numbers as values: a model reads a numeric feature, besides its bucket, normalised by what the first rows hold.

    linear    (x - centre) / spread
    log       (f(x) - centre) / spread, f(x) = sign(x) ln(1 + |x| / unit)

centre is the median and spread the inter-quartile range, of a normal distribution one deviation, so that a few wild
values decide neither. The log is taken where the tail is heavy: where of the values that are not the median one in a
hundred lies further from it than HEAVY spreads. All values end within LIMIT; one that is missing is 0, and a flag next
to it says so.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from recdistill.typing import Array

__all__ = ["ANY_VALUE", "LIMIT", "Scale", "fitted_scale", "scaled", "scale_words"]

Scale = tuple[float, float, float]  # unit of the log, 0 for linear; centre; spread

LIMIT = 5.0
HEAVY = 6.0  # a normal tail has 2.6, an exponential one 4.8, a log-normal one 8.6
OF_NORMAL = 1.349  # inter-quartile range / deviation
ANY_VALUE: Scale = (1.0, 0.0, 3.0)  # where nothing is known of the values


def scaled(values: Array, scale: Scale) -> Array:
    """Return float32 [n, 2] of float64 values [n]: the value by its scale, within LIMIT, and whether it is missing (NaN
    or infinite; then the value is 0).
    """
    unit, centre, spread = scale
    missing = ~np.isfinite(values)
    known = np.array(values)
    known[missing] = 0
    shaped = _logged(known, unit) if unit else known
    found = np.empty((len(known), 2), np.float32)
    found[:, 0] = np.minimum(np.maximum((shaped - centre) / spread, -LIMIT), LIMIT)
    found[missing, 0] = 0
    found[:, 1] = missing
    return found


def fitted_scale(values: Array) -> Scale:
    """Return the scale of a feature of which `values` [n] came first; ANY_VALUE where none of them is finite."""
    finite = np.asarray(values, np.float64)[np.isfinite(values)]
    if not len(finite):
        return ANY_VALUE
    centre, spread = _middle(finite)
    away = np.abs(finite - centre)
    if not away.any() or np.quantile(away[away > 0], 0.99) <= HEAVY * spread:
        return 0.0, centre, spread
    unit = float(np.median(np.abs(finite[finite != 0])))
    return unit, *_middle(_logged(finite, unit))


def scale_words(scale: Sequence[float]) -> str:
    """Return in words what is made of a value."""
    unit, centre, spread = scale
    shaped = f"slog(x / {unit:.3g})" if unit else "x"
    return f"({shaped} {'+' if centre < 0 else '-'} {abs(centre):.3g}) / {spread:.3g}"


def _logged(values: Array, unit: float) -> Array:
    return np.sign(values) * np.log1p(np.abs(values) / unit)


def _middle(values: Array) -> tuple[float, float]:
    """Return (median, spread): by the quartiles; where those are one, by how far from the median half of the values lie
    that differ from it; 1 where none does.
    """
    low, centre, high = (float(one) for one in np.quantile(values, (0.25, 0.5, 0.75)))
    if high > low:
        return centre, (high - low) / OF_NORMAL
    away = np.abs(values - centre)
    return centre, float(np.median(away[away > 0])) if away.any() else 1.0

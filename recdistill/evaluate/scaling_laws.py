"""Scaling: how a model's loss falls with its size, as a law with intervals; written as `scale.json` and as a page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from recdistill.config.base import Strict
from recdistill.evaluate.transferability import Draws, ScoredSamples, bootstrap, over_seeds
from recdistill.typing import Array

__all__ = ["Law", "Scaling", "Size", "fit", "measured", "scaling_of"]

METRICS = ("gauc", "auc", "ne")
EXPONENTS = np.geomspace(0.02, 4.0, 200)
AXIS_NAMES = {
    "history": "events of history",
    "width": "embedding width",
    "data": "samples learned",
    "dense": "dense parameters",
}


class Value(Strict):
    """A metric with its interval."""

    value: float | None
    low: float | None
    high: float | None


class Size(Strict):
    """One size: its axis, its number there, the keys that it changes, its cost and its metrics.

    flops: of a row, forward. ne_new_items: NE of the rows whose item nobody met before the window. gain: of NE over the
    size before it on its axis, positive is better.
    """

    name: str
    axis: str
    x: float | None
    changes: dict[str, Any]
    dense_parameters: int | None
    flops: int | None
    rows_per_second: float | None
    gauc: Value
    auc: Value
    ne: Value
    ne_new_items: Value | None = None
    gain: Value | None = None


class Law(Strict):
    """NE = floor + factor * (x / first) ** -exponent, first the smallest x; intervals over users and seeds.

    monotone: whether every size is better than the one before it, in NE.
    """

    axis: str
    first: float
    floor: Value
    factor: Value
    exponent: Value
    error: float
    monotone: bool

    @property
    def in_words(self) -> str:
        """Return in words whether every size is better than the one before."""
        return (
            "every size is better than the one before"
            if self.monotone
            else "not every size is better than the one before"
        )


class Scaling(Strict):
    """All sizes, axis by axis, and the law of each axis whose sizes are numbers and whose NE falls with them.

    no_law: axis -> why there is none, of the other axes of numbers.
    """

    name: str
    rows: int
    seeds: list[int]
    confidence: float
    sizes: list[Size]
    laws: list[Law]
    no_law: dict[str, str] = {}


def fit(x: Array, loss: Array) -> tuple[Array, Array, Array]:
    """Return (floor, factor, exponent), each float64 [B], of loss [B, P] = floor + factor (x / min x) ** -exponent, by
    least squares.

    For each of EXPONENTS the rest is linear; factor and floor are not negative. x: float64 [P], distinct, positive.
    """
    base, best = (x / x.min())[None, :] ** -EXPONENTS[:, None], np.full(len(loss), np.inf)
    found = np.zeros((3, len(loss)))
    for exponent, column in zip(EXPONENTS, base, strict=True):
        centred = column - column.mean()
        factor = np.maximum((loss * centred).sum(1) / (centred**2).sum(), 0.0)
        floor = np.maximum(loss.mean(1) - factor * column.mean(), 0.0)
        factor = np.where(floor > 0, factor, np.maximum((loss * column).sum(1) / (column**2).sum(), 0.0))
        error = ((loss - floor[:, None] - factor[:, None] * column) ** 2).sum(1)
        better = error < best
        best = np.where(better, error, best)
        found[:, better] = np.stack([floor, factor, np.full(len(loss), exponent)])[:, better]
    return found[0], found[1], found[2]


def measured(samples: ScoredSamples, logits: Sequence[Sequence[Array]], drawn: Draws) -> dict[str, Array]:
    """Return per metric float64 [sizes, 1 + replicates] of the sizes' logits, seeds paired; larger is better."""
    found: dict[str, list[Array]] = {name: [] for name in METRICS}
    for seeds in logits:
        for name, values in bootstrap(samples, seeds, drawn.bundle, drawn.weights).items():
            found[name].append(over_seeds(values, drawn.students))
    return {name: np.stack(values) for name, values in found.items()}


def _value(replicates: Array, confidence: float) -> Value:
    known = replicates[1:][np.isfinite(replicates[1:])]
    low, high = np.quantile(known, [(1 - confidence) / 2, (1 + confidence) / 2]) if len(known) else (np.nan, np.nan)
    first, *rest = (float(part) if np.isfinite(part) else None for part in (replicates[0], low, high))
    return Value(value=first, low=rest[0], high=rest[1])


def scaling_of(
    name: str,
    rows: int,
    seeds: list[int],
    confidence: float,
    facts: Mapping[str, dict[str, Any]],
    values: dict[str, Array],
    new: dict[str, Array] | None = None,
) -> Scaling:
    """Return the scaling of sizes by name: facts are Size's keys but for the metrics, values as `measured` gives them.

    new: the same of the samples whose item is new to the window, None where there are none.
    """
    loss = -values["ne"]
    sizes: list[Size] = []
    for at, (key, keys) in enumerate(facts.items()):
        same = at > 0 and sizes[-1].axis == keys["axis"]
        gain = _value(loss[at - 1] - loss[at], confidence) if same else None
        ranked = {metric: _value(values[metric][at], confidence) for metric in ("gauc", "auc")}
        sizes.append(
            Size(
                name=key,
                **keys,
                gauc=ranked["gauc"],
                auc=ranked["auc"],
                ne=_value(loss[at], confidence),
                gain=gain,
                ne_new_items=_value(-new["ne"][at], confidence) if new else None,
            )
        )
    numbered = [
        axis
        for axis in dict.fromkeys(size.axis for size in sizes)
        if _numbered(axis, sizes) and np.isfinite(loss[:, 0]).all()
    ]
    why = {axis: reason for axis in numbered if (reason := _rises(axis, sizes, loss, confidence))}
    laws = [_law(axis, sizes, loss, confidence) for axis in numbered if axis not in why]
    return Scaling(name=name, rows=rows, seeds=seeds, confidence=confidence, sizes=sizes, laws=laws, no_law=why)


def _rises(axis: str, sizes: Sequence[Size], loss: Array, confidence: float) -> str | None:
    """Return why no law fits an axis: its largest size is not better than its smallest, or a step up is worse beyond
    its interval; None where neither is so. A law of what rises would have a factor of 0 and any exponent.
    """
    at = sorted((place for place, size in enumerate(sizes) if size.axis == axis), key=lambda place: sizes[place].x or 0)
    x = [sizes[place].x for place in at]
    if loss[at[-1], 0] >= loss[at[0], 0]:
        return f"NE does not fall with size: {loss[at[0], 0]:.4f} at {x[0]:g}, {loss[at[-1], 0]:.4f} at {x[-1]:g}"
    for low, high, before, after in zip(at, at[1:], x, x[1:], strict=False):
        step = _value(loss[high] - loss[low], confidence)
        if step.low is not None and step.low > 0:
            return f"NE rises from {before:g} to {after:g}, beyond its interval ({step.low:+.4f} to {step.high:+.4f})"
    return None


def _numbered(axis: str, sizes: Sequence[Size]) -> bool:
    """Return whether an axis has a law: three different numbers at least."""
    numbers = [size.x for size in sizes if size.axis == axis]
    known = [number for number in numbers if number is not None and 0 < number < np.inf]
    return len(known) == len(numbers) == len(set(known)) and len(known) >= 3


def _law(axis: str, sizes: Sequence[Size], loss: Array, confidence: float) -> Law:
    at = [place for place, size in enumerate(sizes) if size.axis == axis]
    x = np.array([sizes[place].x for place in at], np.float64)
    floor, factor, exponent = fit(x, loss[at].T)
    fitted = floor[0] + factor[0] * (x / x.min()) ** -exponent[0]
    rising = loss[[at[place] for place in np.argsort(x)], 0]
    return Law(
        axis=axis,
        first=float(x.min()),
        floor=_value(floor, confidence),
        factor=_value(factor, confidence),
        exponent=_value(exponent, confidence),
        error=float(np.abs(fitted - loss[at, 0]).max()),
        monotone=bool((np.diff(rising) < 0).all()),
    )

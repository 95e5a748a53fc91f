"""Metrics by slice of the scored window, and over time."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import polars as pl

from recdistill.evaluate import metrics
from recdistill.evaluate.summary import METRICS, VALUE_METRICS, Curve, Slice
from recdistill.evaluate.transferability import Draws, estimate_of, gauc_replicates, replicates_of
from recdistill.evaluate.window import Frame
from recdistill.typing import Array

__all__ = ["PartScores", "Point", "curve", "points", "sliced", "slices"]

CURVE_POINTS = 40  # at most
HISTORY_LENGTHS = ((0, 1, "0"), (1, 10, "1-9"), (10, 50, "10-49"), (50, 200, "50-199"), (200, math.inf, "200+"))
MIN_ROWS = 200  # of a slice, and of a point of a curve


def _buckets(rows: int) -> list[slice]:
    """Return the buckets of a curve: equally many rows in each."""
    edges = np.linspace(0, rows, min(CURVE_POINTS, max(1, rows // MIN_ROWS)) + 1).astype(int)
    return [slice(low, high) for low, high in zip(edges[:-1], edges[1:], strict=True) if high > low]


@dataclass(frozen=True)
class Point:
    """What one model scores in a bucket of time; kl: the mean KL(teacher || model) in nats by teacher, none where
    levels are unknown.
    """

    scores: metrics.Scores
    kl: list[float]


def points(frame: Frame, logit: Array, teacher: Sequence[Array] = ()) -> list[Point]:
    """Return one model's scores over time, from its logits [N] and those of teachers to compare it with."""
    compared = teacher if frame.levels_why is None and not frame.samples.regression else ()

    def of(part: slice) -> Point:
        weight = frame.samples.where(part).weight
        kl = [metrics.divergence(one[part], logit[part], weight) for one in compared]
        return Point(frame.where(part).scores(logit[part]), kl)

    return [of(part) for part in _buckets(len(frame.ids))]


def curve(frame: Frame, seeds: Sequence[Sequence[Point]], compared: bool = True) -> Curve:
    """Return a model's metrics over time, the mean over the `points` of its seeds, `kl` too where it was `compared`."""
    times: list[datetime] = frame.rows["time"].gather([part.start for part in _buckets(len(frame.ids))]).to_list()
    by_time = list(zip(*seeds, strict=True))
    found = [metrics.means_of([one.scores for one in at]).values for at in by_time]
    names = VALUE_METRICS if frame.samples.regression else METRICS
    values: dict[str, list[float | None]] = {name: [one[name] for one in found] for name in names}
    if compared and any(one.kl for at in by_time for one in at):
        values["kl"] = [float(np.mean([one.kl for one in at])) for at in by_time]
    return Curve(time=times, metrics=values)


def _masks(frame: Frame) -> Iterator[tuple[str, str, Array]]:
    rows = frame.rows
    for name in ("new_item", "new_user"):
        flag = rows[name].to_numpy()
        yield name, "yes", flag
        yield name, "no", ~flag
    seen = rows["seen"].to_numpy()
    for low, high, value in HISTORY_LENGTHS:
        yield "history_length", value, (seen >= low) & (seen < high)
    hour = rows.select(pl.col("time").dt.hour()).to_series().to_numpy()
    for first in range(0, 24, 6):
        yield "hour", f"{first:02d}-{first + 5:02d}", (hour >= first) & (hour < first + 6)


@dataclass(frozen=True)
class PartScores:
    """What one model scores where `slice` has `value`: its metrics, of which `metric` (GAUC, of a regression XAUC) is
    the first of its replicates, float64 [1 + R].
    """

    slice: str
    value: str
    rows: int
    users: int
    scores: metrics.Scores
    metric: str
    drawn: Array


def sliced(frame: Frame, logit: Array, bundle: Array, weights: Array) -> list[PartScores]:
    """Return one model's scores in every slice of enough rows, from its logits [N]; users are drawn as `user_weights`
    says for the whole window.
    """
    masks = ((name, value, mask) for name, value, mask in _masks(frame) if mask.sum() >= MIN_ROWS)
    return [_part_scores(frame, logit, name, value, mask, (bundle, weights)) for name, value, mask in masks]


def _part_scores(
    frame: Frame, logit: Array, name: str, value: str, mask: Array, drawn: tuple[Array, Array]
) -> PartScores:
    part, cut = frame.where(mask), logit[mask]
    if part.samples.regression:
        metric, found = "xauc", replicates_of(part.samples, cut, *drawn)["xauc"]
    else:
        metric, found = "gauc", gauc_replicates(part.samples, cut, *drawn)
    return PartScores(
        name, value, int(mask.sum()), part.samples.users_here, part.scores(cut, grouped=False), metric, found
    )


def slices(models: Mapping[str, Sequence[Sequence[PartScores]]], drawn: Draws, confidence: float) -> list[Slice]:
    """Return the metrics of teacher, raw and distilled (means over seeds) in every slice, and eta on GAUC, of a
    regression on XAUC, with its interval.

    models: what `sliced` gives of each model's seeds.
    """
    return [_slice(dict(zip(models, parts, strict=True)), drawn, confidence) for parts in _by_slice(models)]


def _by_slice(models: Mapping[str, Sequence[Sequence[PartScores]]]) -> Iterator[tuple[tuple[PartScores, ...], ...]]:
    """Yield slice by slice what the seeds of every model score there."""
    return zip(*(zip(*seeds, strict=True) for seeds in models.values()), strict=True)


def _slice(models: Mapping[str, Sequence[PartScores]], drawn: Draws, confidence: float) -> Slice:
    first = models["teacher"][0]
    values = [np.stack([one.drawn for one in seeds]) for seeds in models.values()]
    eta = estimate_of(np.concatenate(values), drawn, first.users, confidence)
    table = {
        model: metrics.means_of([one.scores for one in seeds]).values | {first.metric: float(of[:, 0].mean())}
        for (model, seeds), of in zip(models.items(), values, strict=True)
    }
    return Slice(
        slice=first.slice,
        value=first.value,
        rows=first.rows,
        metrics=table,
        eta=eta.eta,
        low=eta.low,
        high=eta.high,
        why=eta.why,
    )

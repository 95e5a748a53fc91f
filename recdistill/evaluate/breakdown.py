"""Metrics by slice of the scored window, and over time."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from datetime import datetime

import numpy as np
import polars as pl

from recdistill.evaluate import metrics
from recdistill.evaluate.summary import METRICS, VALUE_METRICS, Curve, Slice
from recdistill.evaluate.transferability import Draws, part_transferability
from recdistill.evaluate.window import Frame
from recdistill.typing import Array

__all__ = ["curve", "slices"]

CURVE_POINTS = 40  # at most
HISTORY_LENGTHS = ((0, 1, "0"), (1, 10, "1-9"), (10, 50, "10-49"), (50, 200, "50-199"), (200, math.inf, "200+"))
MIN_ROWS = 200  # of a slice, and of a point of a curve


def curve(frame: Frame, logits: Sequence[Array], teacher: Sequence[Array] = ()) -> Curve:
    """Return a model's metrics over time, the mean over its seeds, in buckets of equally many rows.

    With the logits of a `teacher` also `kl`, the mean KL(teacher || model) in nats.
    """
    edges = np.linspace(0, len(frame.ids), min(CURVE_POINTS, max(1, len(frame.ids) // MIN_ROWS)) + 1).astype(int)
    parts = [slice(low, high) for low, high in zip(edges[:-1], edges[1:], strict=True) if high > low]
    times: list[datetime] = frame.rows["time"].gather([part.start for part in parts]).to_list()
    found = [frame.where(part).scores([z[part] for z in logits]).values for part in parts]
    names = VALUE_METRICS if frame.samples.regression else METRICS
    values: dict[str, list[float | None]] = {name: [one[name] for one in found] for name in names}
    if teacher and frame.levels_why is None and not frame.samples.regression:
        values["kl"] = [_divergence(frame, part, logits, teacher) for part in parts]
    return Curve(time=times, metrics=values)


def _divergence(frame: Frame, part: slice, logits: Sequence[Array], teacher: Sequence[Array]) -> float:
    weight = frame.samples.where(part).weight
    return float(np.mean([metrics.divergence(one[part], z[part], weight) for one in teacher for z in logits]))


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


def slices(frame: Frame, logits: dict[str, list[Array]], drawn: Draws, confidence: float) -> list[Slice]:
    """Return each model's metrics (means over seeds) in every slice of enough rows, and eta on GAUC, of a regression on
    XAUC, with its interval.

    `logits` maps teacher, raw and distilled to their seeds' logits [N]; users and seeds are drawn as for the whole
    window.
    """
    return [
        _slice(frame, logits, name, value, mask, drawn, confidence)
        for name, value, mask in _masks(frame)
        if mask.sum() >= MIN_ROWS
    ]


def _slice(
    frame: Frame, logits: dict[str, list[Array]], name: str, value: str, mask: Array, drawn: Draws, confidence: float
) -> Slice:
    part = frame.where(mask)
    cut = {model: [z[mask] for z in logits[model]] for model in ("teacher", "raw", "distilled")}
    eta, areas = part_transferability(part.samples, cut["teacher"], cut["raw"], cut["distilled"], drawn, confidence)
    metric = "xauc" if part.samples.regression else "gauc"
    table = {
        model: part.scores(seeds, grouped=False).values | {metric: area}
        for (model, seeds), area in zip(cut.items(), areas, strict=True)
    }
    return Slice(
        slice=name,
        value=value,
        rows=int(mask.sum()),
        metrics=table,
        eta=eta.eta,
        low=eta.low,
        high=eta.high,
        why=eta.why,
    )

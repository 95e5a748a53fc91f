"""Where and when: metrics by slice of the window, and over time."""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import numpy as np
import polars as pl

from recdistill.evaluate import metrics
from recdistill.evaluate.query import Frame
from recdistill.evaluate.summary import Curve, Slice

__all__ = ["curve", "slices"]

Array = np.ndarray[Any, np.dtype[Any]]
BUCKETS = 40  # points of a curve
HISTORY = ((0, 1, "0"), (1, 10, "1-9"), (10, 50, "10-49"), (50, 200, "50-199"), (200, math.inf, "200+"))
FEWEST = 200  # rows of a slice worth a line


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _metrics(frame: Frame, mask: Array, logits: list[Array]) -> dict[str, float | None]:
    """Return GAUC, AUC and NE of the rows in `mask`, each the mean over seeds, None where undefined."""
    y, group = frame.samples.label[mask], frame.samples.group[mask]
    parts = [z[mask] for z in logits]
    return {
        "gauc": _finite(float(np.mean([metrics.gauc(y, z, group) for z in parts]))),
        "auc": _finite(float(np.mean([metrics.auc(y, z) for z in parts]))),
        "ne": _finite(float(np.mean([metrics.normalized_entropy(y, z) for z in parts]))),
    }


def curve(frame: Frame, logits: list[Array]) -> Curve:
    """Return a model's metrics over time, the mean over its seeds, in equal-mass buckets of the window."""
    edges = np.linspace(0, len(frame.ids), min(BUCKETS, max(1, len(frame.ids) // FEWEST)) + 1).astype(int)
    times: list[datetime] = frame.rows["time"].gather(edges[:-1]).to_list()
    values: dict[str, list[float | None]] = {"gauc": [], "auc": [], "ne": []}
    for low, high in zip(edges[:-1], edges[1:], strict=True):
        mask = np.zeros(len(frame.ids), bool)
        mask[low:high] = True
        for name, value in _metrics(frame, mask, logits).items():
            values[name].append(value)
    return Curve(time=times, metrics=values)


def _masks(frame: Frame) -> Iterator[tuple[str, str, Array]]:
    rows = frame.rows
    for name in ("new_item", "new_user"):
        flag = rows[name].to_numpy()
        yield name, "yes", flag
        yield name, "no", ~flag
    seen = rows["seen"].to_numpy()
    for low, high, value in HISTORY:
        yield "history_length", value, (seen >= low) & (seen < high)
    hour = rows.select(pl.col("time").dt.hour()).to_series().to_numpy()
    for first in range(0, 24, 6):
        yield "hour", f"{first:02d}-{first + 5:02d}", (hour >= first) & (hour < first + 6)


def slices(frame: Frame, logits: dict[str, list[Array]]) -> list[Slice]:
    """Return GAUC, AUC and NE of each model (mean over seeds) in each slice of enough rows; eta on GAUC where it can be said.

    `logits` maps teacher, raw and distilled to their seeds' logits.
    """
    found = []
    for name, value, mask in _masks(frame):
        rows = int(mask.sum())
        if rows < FEWEST:
            continue
        table = {model: _metrics(frame, mask, seeds) for model, seeds in logits.items()}
        eta, why = _eta(table, rows)
        found.append(Slice(slice=name, value=value, rows=rows, metrics=table, eta=eta, why=why))
    return found


def _eta(table: dict[str, dict[str, float | None]], rows: int) -> tuple[float | None, str | None]:
    teacher, raw, distilled = (table[model]["gauc"] for model in ("teacher", "raw", "distilled"))
    if teacher is None or raw is None or distilled is None:
        return None, "GAUC is not defined here"
    if teacher - raw < 2 / math.sqrt(rows):
        return None, "the teacher's gain is inside the noise of this many rows"
    return (distilled - raw) / (teacher - raw), None

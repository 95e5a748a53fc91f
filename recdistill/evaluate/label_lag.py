"""By how much labels lag behind their samples: what a run says about the clock that its models followed."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict

from recdistill.data.store.label_order import NEVER
from recdistill.data.store.sample_store import SampleStore
from recdistill.typing import Array

__all__ = ["LabelLag", "label_lag", "lag_sentence"]


class LabelLag(BaseModel):
    """When one task's labels were known after their samples, positives alone with a window: median and 90th percentile
    in seconds. after_end: labels that were known, or whose windows end, only after the log's last sample: no model
    learned them. window_s: how long a sample waits for its outcome, None where it waits for the label's own time.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    task: str
    median_s: float
    p90_s: float
    labels: int
    after_end: int
    window_s: float | None = None


def label_lag(folder: Path) -> list[LabelLag]:
    """Return the lag of every task of the store in `folder`, none where labels are known with their samples."""
    store = SampleStore(folder)
    if store.label_order is None or not len(store):
        return []
    window = None if store.clock.window is None else store.clock.window / 1e6
    return [_of_task(store, k, task, window) for k, task in enumerate(store.tasks)]


def _of_task(store: SampleStore, k: int, task: str, window: float | None) -> LabelLag:
    time, label, known = np.asarray(store.time), np.asarray(store.labels[:, k]), np.asarray(store.known[:, k])
    given = ~np.isnan(label) if window is None else label == 1
    lag = (known - time)[given & (known < NEVER)] / 1e6
    median, p90 = _quantiles(lag)
    learned = known[given] if store.clock.window is None else time + store.clock.window
    after = int((learned >= time[-1]).sum())
    return LabelLag(task=task, median_s=median, p90_s=p90, labels=len(lag), after_end=after, window_s=window)


def _quantiles(lag: Array) -> tuple[float, float]:
    if not len(lag):
        return 0.0, 0.0
    median, p90 = np.quantile(lag, (0.5, 0.9))
    return float(median), float(p90)


def lag_sentence(lags: list[LabelLag]) -> str:
    """Return in words when labels counted."""
    if not lags:
        return "known with their samples: the log gives no label_times, so outcomes count at once"
    found = []
    for one in lags:
        what = f"{one.task} {_span(one.median_s)} after its sample (median; 90 % within {_span(one.p90_s)})"
        late = f"; {one.after_end:,} samples' labels count only after the log's end and no model learned them"
        late = late if one.after_end else ""
        found.append(what + late)
    window = lags[0].window_s
    rule = "" if window is None else f"; a sample is learned when its window of {_span(window)} ends"
    return "; ".join(found) + rule


def _span(seconds: float) -> str:
    """Return a duration as people say it: 40 s, 12 min, 3.5 h, 2 d."""
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if timedelta(seconds=seconds) >= timedelta(seconds=2 * size):
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.3g} s"

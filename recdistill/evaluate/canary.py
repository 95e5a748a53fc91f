"""What a canary and the served version predicted against what happened, from the two tables.

A version is off where sum of predictions / sum of labels is far from 1, beyond chance: outcomes of one user go
together, so the error of the sums' difference is the larger of that over users and of independent outcomes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import polars as pl

from recdistill.evaluate.metrics import probability
from recdistill.evaluate.window import settled, with_later_labels
from recdistill.tables.events import EventLog, OutcomeLog
from recdistill.tables.predictions import PredictionLog

__all__ = ["ENOUGH", "Happened", "began", "fault", "happened"]

ENOUGH = 200  # samples with an outcome before anything is judged
SIGMAS = 5.0  # of the difference of the sums, beyond which it is no chance


@dataclass(frozen=True)
class Happened:
    """One version's samples whose outcome is known. predicted, observed: sums; error: standard error of predicted -
    observed.
    """

    rows: int
    predicted: float
    observed: float
    error: float

    @property
    def off(self) -> float:
        """Return |log(predicted / observed)|: 0 is calibrated; infinite where one of them alone is 0."""
        if self.predicted == self.observed:
            return 0.0
        return abs(math.log(self.predicted / self.observed)) if min(self.predicted, self.observed) > 0 else math.inf

    @property
    def by_chance(self) -> bool:
        """Return whether so large a difference may be chance."""
        return abs(self.predicted - self.observed) <= SIGMAS * self.error


def fault(task: str, canary: Happened, served: Happened, bound: float) -> str | None:
    """Return in words that a canary predicts more than `bound` times as much as happened, or as little, and is further
    off than the served version, where that has ENOUGH samples; None where it does not, or that may be chance.
    """
    if canary.rows < ENOUGH or canary.off <= math.log(bound) or canary.by_chance:
        return None
    if served.rows >= ENOUGH and canary.off <= served.off:
        return None
    mine, real = canary.predicted / canary.rows, canary.observed / canary.rows
    return f"it predicts {mine:.4g} of {task} on average and {real:.4g} happened, of {canary.rows:,} samples"


def began(predictions: PredictionLog, models: Sequence[str]) -> datetime | None:
    """Return the earliest time of a sample that one of the models predicted, None where the first predicted none."""
    of_all = predictions.scan().filter(pl.col("model").is_in(models)).group_by("model").agg(pl.col("time").min())
    found = dict(predictions.collect(of_all).iter_rows())
    return min(found.values()) if models[0] in found else None


def happened(
    events: EventLog, predictions: PredictionLog, model: str, task: str, since: datetime, window_s: float | None
) -> Happened:
    """Return how a model's predictions of samples from `since` on ended; those that are younger than `window_s` when
    the log ends are left out: their outcome may still come.
    """
    rows = _labelled(events, task, since, window_s)
    column = f"logit_{task}"
    mine = predictions.scan().filter((pl.col("model") == model) & (pl.col("time") >= since))
    both = rows.join(predictions.collect(mine.select("sample_id", column)), on="sample_id")
    rule, logit = events.schema.rule(task), both[column].to_numpy()
    value = probability(logit) if rule is None else rule.values(logit)
    label, weight = (both[name].to_numpy().astype(np.float64) for name in ("label", "weight"))
    residual = pl.DataFrame({"user": both["user_id"], "off": weight * (value - label)})
    by_user = residual.group_by("user").agg(pl.col("off").sum())["off"].to_numpy()
    over_users = len(by_user) * float(by_user.var()) if len(by_user) else 0.0
    alone = float((weight**2 * value * (1 - value)).sum()) if rule is None else 0.0
    predicted, observed = float((weight * value).sum()), float((weight * label).sum())
    return Happened(len(both), predicted, observed, math.sqrt(max(over_users, alone)))


def _labelled(events: EventLog, task: str, since: datetime, window_s: float | None) -> pl.DataFrame:
    """Return sample_id, user_id, label and weight of the samples from `since` on whose label of `task` is known. Where
    outcomes have a table of their own, a sample without one is a negative.
    """
    weight = pl.col("weight") if events.schema.has_weight else pl.lit(1.0)
    rows = events.collect(
        events.scan()
        .filter(pl.col("time") >= since)
        .select("sample_id", "time", "user_id", weight.alias("weight"), pl.col(f"label_{task}").alias("label"))
    )
    rows = rows.filter(settled(rows["time"], window_s))
    path = events.path.parent / "outcomes"
    if path.exists():
        log = OutcomeLog.open(path)
        later = log.scan().filter((pl.col("task") == task) & (pl.col("time") >= since))
        rows = with_later_labels(rows, log.collect(later.select("sample_id", "label")))
    return rows.filter(pl.col("label").is_not_null())

"""Baselines: what simple models of strictly earlier counts score on the window, a floor under every teacher.

A baseline learns once, from rows before the window with the labels that were known before it; its counts go on through
the window, as a model's do, by the same rules (`LabelClock`). On a log without a label before its window there is none.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec

import numpy as np
import polars as pl

from recdistill.config.experiment import EvaluateConfig
from recdistill.data.store.earlier_counts import earlier_counts
from recdistill.data.store.encoder import known_times
from recdistill.data.store.label_order import LabelClock
from recdistill.evaluate import metrics
from recdistill.evaluate.logistic import fit_logistic
from recdistill.evaluate.summary import ModelSummary
from recdistill.evaluate.window import Frame, load_window
from recdistill.tables.events import EventLog
from recdistill.tables.schema import EventSchema, feature_column
from recdistill.typing import Array

__all__ = ["NAMES", "baselines", "count_features", "learners"]

NAMES = {"counts": "logistic regression on four counts", "lightgbm": "LightGBM on counts and features"}
WITH_SAMPLES = LabelClock()
PRIOR_ROWS = 10.0  # a user or item starts as if it had so many rows of the average rate
FIT_ROWS = 1_000_000  # the newest rows before the window, of which a baseline learns
TREES = 100
SETTINGS = {"num_leaves": 31, "learning_rate": 0.1, "seed": 0, "verbosity": -1}

Learner = Callable[["Examples"], Array]


@dataclass(frozen=True)
class Examples:
    """What baselines learn from and predict: counts float64 [N, 4] as `count_features` gives them, features float64
    [N, F] of which the columns `categorical` hold codes, label as known when the window began and weight [N], and which
    rows are fitted, which scored.
    """

    counts: Array
    features: Array
    categorical: list[int]
    label: Array
    weight: Array
    fitted: Array
    scored: Array


def learners() -> dict[str, Learner]:
    """Return how each baseline learns, by name; LightGBM where it is installed."""
    trees: dict[str, Learner] = {"lightgbm": _trees} if find_spec("lightgbm") else {}
    return {"counts": _logistic, **trees}


def baselines(
    events: EventLog, version: int, config: EvaluateConfig, clock: LabelClock = WITH_SAMPLES
) -> dict[str, ModelSummary]:
    """Return every baseline's scores on the window and the first task, by name; empty without labels before it, and of
    a regression.

    clock: when labels count.

    Memory O(the log's rows). Raises UserError as `load_window` does.
    """
    task = events.schema.tasks[0]
    if task in events.schema.regression:
        return {}
    frame = load_window(events, version, task, config.start, config.group)
    examples = _examples(events, version, frame, clock)
    if len(np.unique(examples.label[examples.fitted])) < 2 or not len(examples.scored):
        return {}
    return {name: _scores(frame, name, learn(examples)) for name, learn in learners().items()}


def _scores(frame: Frame, name: str, logits: Array) -> ModelSummary:
    found, rows = frame.where(slice(None)).scores(logits), frame.samples
    by: dict[str, float | None] = {
        of: metrics.gauc(rows.label, logits, codes, rows.weight) for of, codes in frame.groups.items()
    }
    rest = {"why": found.why, "gauc_by": by, "settings": {"kind": NAMES[name]}}
    return ModelSummary.model_validate({**found.values, **rest})


def _examples(events: EventLog, version: int, frame: Frame, clock: LabelClock = WITH_SAMPLES) -> Examples:
    schema = events.schema
    task, scalars = schema.tasks[0], [name for name, kind in schema.features.items() if not kind.startswith("list")]
    times = [f"label_time_{task}"] if task in schema.label_times else []
    columns = ["time", "user_id", "item_id", f"label_{task}", *map(feature_column, scalars), *times]
    columns += ["weight"] if schema.has_weight else []
    rows = pl.concat(list(events.batches(version=version, columns=columns)))
    final = rows[f"label_{task}"].cast(pl.Float64).fill_null(np.nan).to_numpy()
    time, known = rows["time"].dt.epoch("us").to_numpy(), known_times(rows, schema)[:, :1]
    scored = frame.rows["row"].to_numpy().astype(np.int64)
    before = np.arange(int(frame.total * frame.share))
    weight = rows["weight"].cast(pl.Float64).to_numpy() if schema.has_weight else np.ones(len(rows))
    labels, learnable = clock.as_of(time, final[:, None], known, int(time[scored[0]]) if len(scored) else 0)
    label = labels[:, 0]
    usable = ~np.isnan(label[before]) & learnable[before] & (weight[before] > 0)
    fitted = before[usable][-FIT_ROWS:]
    rate = float(weight[fitted] @ label[fitted] / weight[fitted].sum()) if len(fitted) else 0.5
    counted = clock.counted(time, final, known[:, 0])
    counts = [earlier_counts(_codes(rows[key]), time, counted) for key in ("user_id", "item_id")]
    features, categorical = _features(rows, schema, scalars)
    return Examples(count_features(counts, rate), features, categorical, label, weight, fitted, scored)


def _codes(values: pl.Series) -> Array:
    """Return int64 codes from 0 of a column's values."""
    return np.asarray(values.rank("dense").fill_null(0).cast(pl.Int64).to_numpy() - 1)


def _features(rows: pl.DataFrame, schema: EventSchema, names: list[str]) -> tuple[Array, list[int]]:
    """Return (float64 [N, 1 + F]: the hour and the scalar features, which of them hold codes)."""
    columns = [rows["time"].dt.hour().cast(pl.Float64).to_numpy()]
    for name in names:
        values, numeric = rows[feature_column(name)], schema.features[name] == "float32"
        columns.append(values.cast(pl.Float64).fill_null(np.nan).to_numpy() if numeric else _codes(values))
    return np.stack(columns, 1), [1 + at for at, name in enumerate(names) if schema.features[name] != "float32"]


def count_features(counts: list[tuple[Array, Array]], rate: float) -> Array:
    """Return float64 [N, 2 K] of K pairs (labels, positives) [N]: log-odds of the smoothed mean, log(1 + labels).

    The mean is (positives + PRIOR_ROWS rate) / (labels + PRIOR_ROWS).
    """
    found = []
    for labels, positives in counts:
        mean = (positives + PRIOR_ROWS * rate) / (labels + PRIOR_ROWS)
        found += [np.log(mean) - np.log1p(-mean), np.log1p(labels)]
    return np.stack(found, 1)


def _logistic(examples: Examples) -> Array:
    """Return float64 logits of the scored rows, by a logistic regression on the counts, each scaled to unit spread."""
    fitted = examples.counts[examples.fitted]
    mean, spread = fitted.mean(0), fitted.std(0)
    scaled = (examples.counts - mean) / np.where(spread > 1e-9, spread, 1.0)
    x = np.c_[np.ones(len(scaled)), scaled]
    counted = examples.weight[examples.fitted]
    weights = fit_logistic(x[examples.fitted], examples.label[examples.fitted], counted / counted.mean())
    return np.asarray(x[examples.scored] @ weights)


def _trees(examples: Examples) -> Array:
    """Return float64 logits of the scored rows, by LightGBM on the counts and the features."""
    import lightgbm  # which takes a second to import, and is an extra

    x = np.c_[examples.counts, examples.features]
    categorical = [examples.counts.shape[1] + at for at in examples.categorical]
    label = examples.label[examples.fitted]
    settings = {**SETTINGS, "objective": "binary" if np.isin(label, (0, 1)).all() else "cross_entropy"}
    counted = examples.weight[examples.fitted]
    weight = None if (counted == 1).all() else counted / counted.mean()
    fitted = lightgbm.Dataset(
        x[examples.fitted], label, weight=weight, categorical_feature=categorical, params=settings
    )
    booster = lightgbm.train(settings, fitted, TREES)
    return np.asarray(booster.predict(x[examples.scored], raw_score=True))

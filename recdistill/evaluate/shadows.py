"""Versions that scored the live traffic against those that answered it, from the two tables: on the samples that both
predicted and whose outcome is known.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import polars as pl

from recdistill.config.experiment import Experiment
from recdistill.defaults import SERVED, SHADOW
from recdistill.evaluate.summary import ModelSummary, Shadow
from recdistill.evaluate.transferability import draw_all, transferability
from recdistill.evaluate.window import Frame, codes_of, load_window, recorded_logits, settled
from recdistill.tables.events import EventLog
from recdistill.tables.predictions import PredictionLog
from recdistill.typing import Array

__all__ = ["compared"]


def compared(events: EventLog, predictions: PredictionLog, experiment: Experiment) -> list[Shadow]:
    """Return every shadow against every served version that it has scored samples with, by task; none where nothing
    was shadowed.
    """
    names = [name for name, *_ in predictions.models()]
    pairs = [(one, other) for one in _versions(names, SHADOW) for other in _versions(names, SERVED)]
    return list(_all(events, predictions, experiment, pairs)) if pairs else []


def _versions(names: list[str], prefix: str) -> list[str]:
    found = (name for name in names if name.startswith(prefix))
    return sorted(found, key=lambda name: int(name.removeprefix(prefix)))


def _all(
    events: EventLog, predictions: PredictionLog, experiment: Experiment, pairs: list[tuple[str, str]]
) -> Iterator[Shadow]:
    recorded = predictions.version
    for task in events.schema.tasks:
        whole = load_window(events, events.version, task, 0.0, experiment.evaluate.group)
        frame = _part(whole, settled(whole.rows["time"], experiment.labels.window_s).to_numpy())
        logits = {
            name: recorded_logits(predictions, recorded, name, task, frame.ids)
            for name in sorted({one for pair in pairs for one in pair})
        }
        for shadow, served in pairs:
            both = ~(np.isnan(logits[shadow]) | np.isnan(logits[served]))
            if both.any():
                scored = {name: logits[name][both] for name in (shadow, served)}
                yield _compared(_part(frame, both), predictions, events, experiment, task, scored)


def _part(frame: Frame, mask: Array) -> Frame:
    """Return the rows where `mask` holds; users have codes from 0 again, for a draw is made of them."""
    rows = frame.rows.filter(pl.Series(mask))
    samples = replace(frame.samples.where(mask), user=codes_of(rows["user_id"]))
    groups = {name: codes[mask] for name, codes in frame.groups.items()}
    return replace(frame, rows=rows, samples=samples, groups=groups)


def _compared(
    frame: Frame,
    predictions: PredictionLog,
    events: EventLog,
    experiment: Experiment,
    task: str,
    logits: dict[str, Array],
) -> Shadow:
    """Return the shadow, whose logits come first, against the served version on the rows of `frame`."""
    rule, config = events.schema.rule(task), experiment.evaluate
    scored = logits if rule is None else {name: rule.values(one) for name, one in logits.items()}
    (shadow, mine), (served, its) = scored.items()
    drawn = draw_all(frame.samples.users, 1, 1, config.bootstrap)
    gains = transferability(frame.samples, [mine], [its], [its], drawn, config.confidence)
    models = {name: _model(frame, predictions, name, one) for name, one in scored.items()}
    return Shadow(
        task=task,
        rows=len(frame.ids),
        shadow=shadow,
        served=served,
        models={"shadow": models[shadow], "served": models[served]},
        gains={
            name: (one.teacher_gain, one.teacher_gain_low, one.teacher_gain_high)
            for name, one in gains.items()
            if frame.gauc_why is None or name != "gauc"
        },
    )


def _model(frame: Frame, predictions: PredictionLog, name: str, logits: Array) -> ModelSummary:
    found, about = frame.where(slice(None)).scores(logits), predictions.newest_metadata(name) or {}
    seeds = [int(about["seed"])] if "seed" in about else []
    settings = {"exported": about["exported"]} if "exported" in about else {}
    return ModelSummary.model_validate({**found.values, "why": found.why, "seeds": seeds, "settings": settings})

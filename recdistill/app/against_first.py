"""What each method of an ablation has over the first one: its raw students over that one's, its distilled ones over
those.
"""

from __future__ import annotations

from functools import cache

from recdistill.config.experiment import Experiment
from recdistill.evaluate.headline import primary_metric
from recdistill.evaluate.paired import Difference, difference
from recdistill.evaluate.summary import Summary
from recdistill.evaluate.transferability import Draws, draw_all
from recdistill.evaluate.window import Frame, load_window, logits_of
from recdistill.runs.folder import RunFolder
from recdistill.runs.jobs import Job, pairs_of
from recdistill.tables.events import EventLog
from recdistill.tables.predictions import PredictionLog
from recdistill.typing import Array

__all__ = ["over_first"]


def over_first(
    folder: RunFolder, experiment: Experiment, summary: Summary
) -> dict[str, tuple[Difference | None, Difference | None]]:
    """Return by method, but for the first one, what its raw and its distilled students have over that one's; of the
    seeds that neither of the two left out. Of a regression, and of methods for other parts of the log, nothing.
    """
    metric = primary_metric(summary)
    first, *others = summary.students
    kept = [name for name in others if summary.students[name].domain == summary.students[first].domain]
    task, frame = summary.tasks[0], _frame(folder, experiment, summary, first)
    if frame.samples.regression:
        return {}
    pairs, predictions, evaluate = pairs_of(experiment), PredictionLog.open(folder.predictions), experiment.evaluate

    def logits(job: Job) -> Array:  # as learned: a constant added to them changes no order
        return logits_of(predictions, predictions.version, job.name, task, frame.ids, 0.0)

    @cache
    def drawn(seeds: int) -> Draws:
        return draw_all(frame.samples.users, 1, seeds, evaluate.bootstrap)

    def over(side: int) -> dict[str, Difference | None]:
        base = {pair[side].seed: logits(pair[side]) for pair in pairs[first]}
        found: dict[str, Difference | None] = {}
        for name in kept:
            seeds = _seeds(summary, first) & _seeds(summary, name)
            mine = {pair[side].seed: logits(pair[side]) for pair in pairs[name] if pair[side].seed in seeds}
            theirs, own = [base[seed] for seed in mine], list(mine.values())
            draws, confidence = drawn(len(own)), evaluate.confidence
            found[name] = difference(frame.samples, theirs, own, metric, draws, confidence) if own else None
        return found

    raw, distilled = over(0), over(1)
    return {name: (raw[name], distilled[name]) for name in kept}


def _frame(folder: RunFolder, experiment: Experiment, summary: Summary, first: str) -> Frame:
    """Return the rows on which the methods are scored."""
    events, domain = EventLog.open(folder.tables / "events"), summary.students[first].domain
    window = experiment.evaluate
    frame = load_window(events, events.version, summary.tasks[0], window.start, window.group, [*domain])
    return frame.of_domain(domain) if domain else frame


def _seeds(summary: Summary, name: str) -> set[int]:
    return set(summary.students[name].raw.seeds)

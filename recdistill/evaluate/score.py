"""A run's summary: every model scored on the window and every task, students against the teacher, all from
the two tables.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import numpy as np

from recdistill.config.experiment import EvaluateConfig
from recdistill.errors import UserError
from recdistill.evaluate import metrics
from recdistill.evaluate.breakdown import curve, slices
from recdistill.evaluate.diverged import left_out
from recdistill.evaluate.graded import ndcg
from recdistill.evaluate.model_facts import ModelFacts, StudentModels
from recdistill.evaluate.resampling import time_blocks, transferability_by
from recdistill.evaluate.summary import (
    ETAS,
    VALUE_ETAS,
    Bin,
    Control,
    Details,
    LeftOut,
    ModelSummary,
    ScoredWindow,
    StudentSummary,
    Summary,
    TaskSummary,
    Transfer,
    Transferability,
    Transfers,
    ValueTransferability,
    Versions,
    summarise,
)
from recdistill.evaluate.transferability import Draws, EtaEstimate, draw_all, transferability
from recdistill.evaluate.warnings import warnings_of
from recdistill.evaluate.window import Frame, codes_of, load_window, logits_of
from recdistill.storage.location import Location
from recdistill.tables.events import EventLog
from recdistill.tables.predictions import PredictionLog
from recdistill.tables.regression import Regression
from recdistill.typing import Array

__all__ = ["score"]


@dataclass(frozen=True)
class _Scorer:
    """One task's scored rows, and where the models' logits of them are read."""

    frame: Frame
    predictions: PredictionLog
    version: int
    task: str
    config: EvaluateConfig
    regression: Regression | None

    def logits(self, models: Sequence[ModelFacts]) -> list[Array]:
        """Return float32 [N] of each model, without the offset that its own down-sampling added; of a regression its
        values in the label's unit, float64.
        """
        ids, rule = self.frame.ids, self.regression
        found = [logits_of(self.predictions, self.version, m.name, self.task, ids, m.log_odds_offset) for m in models]
        return found if rule is None else [rule.values(one) for one in found]

    def model(self, models: Sequence[ModelFacts], logits: Sequence[Array]) -> ModelSummary:
        """Return one model over its seeds."""
        found, first = self.frame.where(slice(None)).scores(logits), models[0]
        groups = {} if self.regression else self.frame.groups
        by: dict[str, float | None] = {name: self._gauc(logits, group) for name, group in groups.items()}
        return ModelSummary(
            **found.values,
            std={**found.std},
            why=found.why,
            gauc_by=by,
            settings=first.settings,
            dense_parameters=first.costs.dense_parameters,
            sparse_parameters=first.costs.sparse_parameters,
            rows_per_second=_mean([m.costs.rows_per_second for m in models]),
            rows_learned=_mean([m.costs.rows for m in models]),
            steps=_mean([m.costs.steps for m in models]),
            seconds=_mean([m.costs.seconds for m in models]),
            flops=_mean([m.costs.flops for m in models]),
            serving_flops=_mean([m.costs.serving_flops for m in models]),
            seeds=[m.seed for m in models],
        )

    def _gauc(self, logits: Sequence[Array], group: Array) -> float:
        samples = self.frame.samples
        return float(np.mean([metrics.gauc(samples.label, z, group, samples.weight) for z in logits]))

    def of_domain(
        self, teachers: Sequence[ModelFacts], models: StudentModels, without: list[LeftOut] | None
    ) -> StudentSummary:
        """Return one student of a domain, and the teacher there, on the domain's rows alone."""
        part = replace(self, frame=self.frame.of_domain(models.domain))
        taught = part.logits(teachers)
        found = part.student(models, taught, without)
        return found.model_copy(
            update={"domain": models.domain, "rows": len(part.frame.ids), "teacher": part.model(teachers, taught)}
        )

    def student(self, models: StudentModels, teacher: list[Array], without: list[LeftOut] | None) -> StudentSummary:
        """Return one student against the teacher's logits, of each of its seeds.

        without: the seeds that are left out; None: find them.
        """
        raw, distilled = self.logits(models.raw), self.logits(models.distilled)
        seeds = [model.seed for model in models.raw]
        if without is None and self.regression:
            without = []
        if without is None:
            without = left_out(self.frame.samples, seeds, {"raw": raw, "distilled": distilled})
        kept = [at for at, seed in enumerate(seeds) if seed not in {one.seed for one in without}]
        raw, distilled = [raw[at] for at in kept], [distilled[at] for at in kept]
        drawn = self._draws(len(teacher), len(kept))
        controls = {name: [one[at] for at in kept] for name, one in models.controls.items()}
        found = transferability(self.frame.samples, teacher, raw, distilled, drawn, self.config.confidence)
        otherwise = self._drawn_otherwise((teacher, raw, distilled), drawn)
        return StudentSummary(
            raw=self.model([models.raw[at] for at in kept], raw),
            distilled=self.model([models.distilled[at] for at in kept], distilled),
            transferability=_transferability(found, otherwise, self.frame),
            coverage=float(np.mean([models.distilled[at].costs.coverage for at in kept])),
            details=self._details({"teacher": teacher, "raw": raw, "distilled": distilled}, drawn),
            controls={name: self._control(one, (teacher, raw, distilled), drawn) for name, one in controls.items()},
            left_out=without,
        )

    def _control(
        self, models: Sequence[ModelFacts], pair: tuple[list[Array], list[Array], list[Array]], drawn: Draws
    ) -> Control:
        """Return a control, and how much of the teacher's gain the distilled student has beyond it.

        pair: logits of teachers, raw and distilled students.
        """
        own = self.logits(models)
        found = transferability(self.frame.samples, *pair, drawn, self.config.confidence, own)
        return Control(model=self.model(models, own), beyond=_transferability(found, {}, self.frame))

    def _drawn_otherwise(
        self, models: tuple[list[Array], list[Array], list[Array]], drawn: Draws
    ) -> dict[str, dict[str, EtaEstimate]]:
        """Return eta by metric where items, and stretches of time, are drawn in place of users."""
        units = {"item": codes_of(self.frame.rows["item_id"]), "time": time_blocks(len(self.frame.ids))}
        return transferability_by(self.frame.samples, units, models, drawn, self.config.confidence)

    def _details(self, logits: dict[str, list[Array]], drawn: Draws) -> Details:
        compared = {"teacher": (), "raw": logits["teacher"], "distilled": logits["teacher"]}
        return Details(
            curves={name: curve(self.frame, seeds, compared[name]) for name, seeds in logits.items()},
            calibration={name: _bins(self.frame, seeds) for name, seeds in logits.items()},
            slices=slices(self.frame, logits, drawn, self.config.confidence),
        )

    def all(
        self, teachers: Sequence[ModelFacts], students: dict[str, StudentModels], without: dict[str, list[LeftOut]]
    ) -> TaskSummary:
        """Return every model on this task. without: the seeds left out, by student; found where it names none."""
        taught = self.logits(teachers)
        scored = {
            name: self.of_domain(teachers, models, without.get(name))
            if models.domain
            else self.student(models, taught, without.get(name))
            for name, models in students.items()
        }
        return TaskSummary(rows=len(self.frame.ids), teacher=self.model(teachers, taught), students=scored)

    def _draws(self, teachers: int, seeds: int) -> Draws:
        return draw_all(self.frame.samples.users, teachers, seeds, self.config.bootstrap)


def _graded(
    levels: Sequence[_Scorer],
    teachers: Sequence[ModelFacts],
    students: dict[str, StudentModels],
    first: dict[str, StudentSummary],
) -> dict[str, float | None]:
    """Return each model's NDCG, the mean over its seeds, of a label whose tasks are `levels`; rows are ordered by the
    expected number of levels reached. Not of students of a domain, and none of a log without users, nor of models that
    sampled the log by one of the levels.

    first: the students' scores on the first task, by which seeds were left out.
    """
    frame = levels[0].frame
    unknown = [one.frame.gauc_why or one.frame.levels_why for one in levels]
    if any(unknown) or not len(frame.ids):
        return {}
    samples, grade = frame.samples, np.sum([one.frame.samples.label for one in levels], 0)

    def of(models: Sequence[ModelFacts]) -> float:
        expected = (np.sum([metrics.probability(level.logits([one])[0]) for level in levels], 0) for one in models)
        return float(np.mean([ndcg(grade, one, samples.group, samples.weight) for one in expected]))

    found: dict[str, float | None] = {"teacher": of(teachers)}
    for name, models in students.items():
        if not models.domain:
            gone = {one.seed for one in first[name].left_out}
            for variant in ("raw", "distilled"):
                found[f"{name} {variant}"] = of([m for m in getattr(models, variant) if m.seed not in gone])
    return found


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def _transferability(
    found: dict[str, EtaEstimate], otherwise: dict[str, dict[str, EtaEstimate]], frame: Frame
) -> Transfers:
    if frame.samples.regression:
        lost = [name for name in VALUE_ETAS if found[name].teacher_gain < 0]
        return ValueTransferability(**{name: _transfer(found[name], otherwise.get(name, {}), lost) for name in found})
    why = {"ne": frame.levels_why, "gauc": frame.gauc_why}
    known = {name: one for name, one in found.items() if why.get(name) is None}
    lost = [name for name in ETAS if name in known and known[name].teacher_gain < 0]
    by = {name: _transfer(one, otherwise.get(name, {}), lost) for name, one in known.items()}
    return Transferability(**by, **{name: Transfer(why=reason) for name, reason in why.items() if reason is not None})


def _transfer(one: EtaEstimate, otherwise: dict[str, EtaEstimate], lost: list[str]) -> Transfer:
    every = {} if one.eta is None else {"user": one, **otherwise}
    width = {unit: np.inf if by.low is None or by.high is None else by.high - by.low for unit, by in every.items()}
    return Transfer(
        eta=one.eta,
        low=one.low,
        high=one.high,
        teacher_gain=one.teacher_gain,
        teacher_gain_low=one.teacher_gain_low,
        teacher_gain_high=one.teacher_gain_high,
        why=one.why,
        loses_on=lost if every else [],
        intervals={unit: (by.low, by.high) for unit, by in every.items()},
        widest=max(width, key=lambda unit: width[unit]) if width else None,
    )


def _bins(frame: Frame, logits: Sequence[Array]) -> list[Bin]:
    """Return the bins of the first seed: a mean of several would hide what one model does."""
    if frame.levels_why is not None or frame.samples.regression:
        return []
    parts = metrics.calibration_bins(frame.samples.label, logits[0], weight=frame.samples.weight)
    return [Bin(predicted=p, observed=o, count=n) for p, o, n in parts]


def _levels_why(tasks: Sequence[str], task: str, models: Sequence[ModelFacts]) -> str | None:
    """Return why the level of `task`'s logits is unknown: models down-sample by the first task's label."""
    if task == tasks[0] or all(model.log_odds_offset == 0 for model in models):
        return None
    return f"models learned from rows sampled by '{tasks[0]}'; what that adds to the log-odds of '{task}' is not known"


def _versions(events: int, predictions: int) -> Versions:
    packages = {name: importlib.metadata.version(name) for name in ("torch", "polars", "deltalake", "numpy")}
    return Versions(events=events, predictions=predictions, packages=packages)


def score(
    name: str,
    tables: Location,
    teachers: Sequence[ModelFacts],
    students: dict[str, StudentModels],
    config: EvaluateConfig,
    baselines: dict[str, ModelSummary] | None = None,
) -> Summary:
    """Return the summary of a run whose tables lie in `tables` (events) and beside it (predictions).

    baselines: their scores on the same window, where they were measured.
    Raises UserError when no row of the window has a label of the first task, or rows are to be grouped by a request
    that the log has not; RecdistillError when a model has no prediction for some of the scored rows.
    """
    events, predictions = EventLog.open(tables / "events"), PredictionLog.open(tables.parent / "predictions")
    pinned, recorded, tasks = events.version, predictions.version, events.schema.tasks
    models = [*teachers, *(m for pair in students.values() for m in pair.all)]
    window = ScoredWindow()
    scored: dict[str, TaskSummary] = {}
    scorers: dict[str, _Scorer] = {}
    graded = {task for tasks in events.schema.levels.values() for task in tasks}
    for task in tasks:
        features = {name: None for student in students.values() for name in student.domain}
        frame = load_window(events, pinned, task, config.start, config.group, list(features))
        if task == tasks[0]:
            window = _window(frame, events, task)
        frame = replace(frame, levels_why=_levels_why(tasks, task, models))
        without = {name: one.left_out for name, one in scored[tasks[0]].students.items()} if scored else {}
        scorer = _Scorer(frame, predictions, recorded, task, config, events.schema.rule(task))
        scored[task] = scorer.all(teachers, students, without)
        if task in graded:
            scorers[task] = scorer
    first = scored.pop(tasks[0])
    summary = summarise(
        teacher=first.teacher,
        students=first.students,
        name=name,
        created=datetime.now(UTC),
        tasks=list(tasks),
        group=config.group,
        confidence=config.confidence,
        rows=first.rows,
        window=window,
        versions=_versions(pinned, recorded),
        further_tasks=scored,
        baselines=baselines or {},
        graded={
            name: _graded([scorers[task] for task in levels], teachers, students, first.students)
            for name, levels in events.schema.levels.items()
        },
    )
    return summary.model_copy(update={"warnings": warnings_of(summary)})


def _window(frame: Frame, events: EventLog, task: str) -> ScoredWindow:
    if not len(frame.ids):
        raise UserError(
            f"{events.path}: no row after the first {frame.share:.0%} has a label of '{task}'; lower evaluate.start"
        )
    time = frame.rows["time"]
    return ScoredWindow(start=time[0], end=time[-1], share=frame.share)

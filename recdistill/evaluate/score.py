"""A run's summary: every model scored on the window and every task, students against the teacher, all from
the two tables.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from uuid import uuid4

import numpy as np

from recdistill.config.experiment import EvaluateConfig
from recdistill.errors import UserError
from recdistill.evaluate import metrics
from recdistill.evaluate.breakdown import curve, slices
from recdistill.evaluate.diverged import left_out
from recdistill.evaluate.graded import ndcg
from recdistill.evaluate.model_facts import ModelFacts, StudentModels
from recdistill.evaluate.model_scores import WHOLE, Asked, ModelScores, logits_asked, parts_of, plan_of, scores_of
from recdistill.evaluate.resampling import transferability_by
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
from recdistill.evaluate.transferability import Draws, EtaEstimate, draw_all, estimate_of
from recdistill.evaluate.warnings import warnings_of
from recdistill.evaluate.window import Frame, load_window
from recdistill.storage.location import Location, remove
from recdistill.tables.events import EventLog
from recdistill.tables.predictions import PredictionLog
from recdistill.typing import Array
from recdistill.workers.parts import ALONE, Workers, in_parts

__all__ = ["score"]


@dataclass(frozen=True)
class _Task:
    """One task's scored rows by part of the window, and what each model scores there, by part and name; parts: of the
    students.
    """

    frames: Mapping[str, Frame]
    found: Mapping[tuple[str, str], ModelScores]
    config: EvaluateConfig
    parts: Mapping[str, str]
    part: str = WHOLE

    @property
    def frame(self) -> Frame:
        """The rows of the part."""
        return self.frames[self.part]

    def of(self, models: Sequence[ModelFacts]) -> list[ModelScores]:
        """Return the scores of models."""
        return [self.found[self.part, one.name] for one in models]

    def model(self, models: Sequence[ModelFacts]) -> ModelSummary:
        """Return one model over its seeds."""
        scores, first = self.of(models), models[0]
        found = metrics.means_of([one.whole for one in scores])
        by: dict[str, float | None] = {
            name: float(np.mean([one.gauc_by[name] for one in scores])) for name in scores[0].gauc_by
        }
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

    def of_domain(
        self, name: str, teachers: Sequence[ModelFacts], models: StudentModels, without: list[LeftOut] | None
    ) -> StudentSummary:
        """Return one student of a domain, and the teacher there, on the domain's rows alone."""
        part = replace(self, part=self.parts[name])
        found = part.student(models, teachers, without)
        return found.model_copy(
            update={"domain": models.domain, "rows": len(part.frame.ids), "teacher": part.model(teachers)}
        )

    def student(
        self, models: StudentModels, teachers: Sequence[ModelFacts], without: list[LeftOut] | None
    ) -> StudentSummary:
        """Return one student against its teachers. without: the seeds that are left out; None: find them."""
        seeds = [model.seed for model in models.raw]
        if without is None:
            ne = {name: [one.ne for one in self.of(getattr(models, name))] for name in ("raw", "distilled")}
            without = left_out(seeds, ne)
        gone = {one.seed for one in without}
        raw, distilled = ([m for m in one if m.seed not in gone] for one in (models.raw, models.distilled))
        at = [place for place, seed in enumerate(seeds) if seed not in gone]
        controls = {name: [one[place] for place in at] for name, one in models.controls.items()}
        drawn = draw_all(self.frame.samples.users, len(teachers), len(raw), self.config.bootstrap)
        trio = [*teachers, *raw, *distilled]
        return StudentSummary(
            raw=self.model(raw),
            distilled=self.model(distilled),
            transferability=_transferability(self._etas(trio, drawn), self._otherwise(trio, drawn), self.frame),
            coverage=float(np.mean([one.costs.coverage for one in distilled])),
            details=self._details({"teacher": teachers, "raw": raw, "distilled": distilled}, drawn),
            controls={name: self._control(one, trio, drawn) for name, one in controls.items()},
            left_out=without,
        )

    def _etas(self, models: Sequence[ModelFacts], drawn: Draws) -> dict[str, EtaEstimate]:
        """Return eta by metric; models: teachers, raw and distilled students, and a control."""
        scores, users = self.of(models), self.frame.samples.users_here
        values = {name: np.stack([one.drawn[name] for one in scores]) for name in scores[0].drawn}
        return {name: estimate_of(of, drawn, users, self.config.confidence) for name, of in values.items()}

    def _control(self, models: Sequence[ModelFacts], trio: list[ModelFacts], drawn: Draws) -> Control:
        """Return a control, and how much of the teacher's gain the distilled student has beyond it."""
        beyond = _transferability(self._etas([*trio, *models], drawn), {}, self.frame)
        return Control(model=self.model(models), beyond=beyond)

    def _otherwise(self, models: Sequence[ModelFacts], drawn: Draws) -> dict[str, dict[str, EtaEstimate]]:
        """Return eta by metric where items, and stretches of time, are drawn in place of users."""
        return transferability_by([one.drawn_by for one in self.of(models)], drawn, self.config.confidence)

    def _details(self, models: dict[str, Sequence[ModelFacts]], drawn: Draws) -> Details:
        scores = {name: self.of(seeds) for name, seeds in models.items()}
        by_slice = {name: [one.slices for one in seeds] for name, seeds in scores.items()}
        return Details(
            curves={
                name: curve(self.frame, [one.points for one in seeds], name != "teacher")
                for name, seeds in scores.items()
            },
            calibration={name: _bins(seeds[0]) for name, seeds in scores.items()},
            slices=slices(by_slice, drawn, self.config.confidence),
        )

    def all(
        self, teachers: Sequence[ModelFacts], students: dict[str, StudentModels], without: dict[str, list[LeftOut]]
    ) -> TaskSummary:
        """Return every model on this task. without: the seeds left out, by student; found where it names none."""
        scored = {
            name: self.of_domain(name, teachers, models, without.get(name))
            if models.domain
            else self.student(models, teachers, without.get(name))
            for name, models in students.items()
        }
        return TaskSummary(rows=len(self.frame.ids), teacher=self.model(teachers), students=scored)


@dataclass(frozen=True)
class _Level:
    """A task that is a level of a label with several."""

    asked: Asked
    frame: Frame

    def probability(self, model: ModelFacts) -> Array:
        """Return float64 [N], how probable the model holds that the level is reached."""
        logits = logits_asked(self.asked, self.frame.ids, model.name, model.log_odds_offset)
        return metrics.probability(logits)


def _graded(
    levels: Sequence[_Level],
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
        expected = (np.sum([level.probability(one) for level in levels], 0) for one in models)
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


def _bins(first: ModelScores) -> list[Bin]:
    """Return the bins of the first seed: a mean of several would hide what one model does."""
    return [Bin(predicted=p, observed=o, count=n) for p, o, n in first.bins]


def _levels_why(tasks: Sequence[str], task: str, models: Sequence[ModelFacts]) -> str | None:
    """Return why the level of `task`'s logits is unknown: models down-sample by the first task's label."""
    if task == tasks[0] or all(model.log_odds_offset == 0 for model in models):
        return None
    return f"models learned from rows sampled by '{tasks[0]}'; what that adds to the log-odds of '{task}' is not known"


def _versions(events: int, predictions: int) -> Versions:
    packages = {name: importlib.metadata.version(name) for name in ("torch", "polars", "deltalake", "numpy")}
    return Versions(events=events, predictions=predictions, packages=packages)


@contextmanager
def _scratch(tables: Location) -> Iterator[Path]:
    """Give a folder on this machine for the scored windows, which goes again; what a killed process left goes too."""
    run = tables.parent
    place = (run if isinstance(run, Path) else run.local) / "scoring"
    remove(place)
    try:
        yield place / uuid4().hex  # another name each time: a worker may remember what it has read
    finally:
        remove(place)


def score(
    name: str,
    tables: Location,
    teachers: Sequence[ModelFacts],
    students: dict[str, StudentModels],
    config: EvaluateConfig,
    baselines: dict[str, ModelSummary] | None = None,
    workers: Workers = ALONE,
) -> Summary:
    """Return the summary of a run whose tables lie in `tables` (events) and next to it (predictions).

    baselines: their scores on the same window, where they were measured. workers: who scores the models.
    Raises UserError when no row of the window has a label of the first task, or rows are to be grouped by a request
    that the log has not; RecdistillError when a model has no prediction for some of the scored rows.
    """
    with _scratch(tables) as folder:
        return _score(folder, _Run(name, tables, teachers, students, config, workers), baselines or {})


@dataclass(frozen=True)
class _Run:
    """What is scored; see `score`."""

    name: str
    tables: Location
    teachers: Sequence[ModelFacts]
    students: dict[str, StudentModels]
    config: EvaluateConfig
    workers: Workers


def _task(run: _Run, frame: Frame, asked: Asked) -> _Task:
    """Return one task, every model scored by the workers."""
    parts = parts_of(run.students)
    frame.save(asked.folder / WHOLE)
    for name, part in parts.items():
        if part == f"of-{name}":
            frame.of_domain(run.students[name].domain).save(asked.folder / part)
    plan = plan_of(run.teachers, run.students, parts)
    found = in_parts(partial(scores_of, asked), plan, run.workers)
    scores = {(one.part, one.name): scores for one, scores in zip(plan, found, strict=True)}
    frames = {part: Frame.open(asked.folder / part) for part in {WHOLE, *parts.values()}}
    return _Task(frames, scores, run.config, parts)


def _score(folder: Path, run: _Run, baselines: dict[str, ModelSummary]) -> Summary:
    tables, teachers, students, config = run.tables, run.teachers, run.students, run.config
    events, predictions = EventLog.open(tables / "events"), PredictionLog.open(tables.parent / "predictions")
    pinned, recorded, tasks = events.version, predictions.version, events.schema.tasks
    models = [*teachers, *(m for pair in students.values() for m in pair.all)]
    window = ScoredWindow()
    scored: dict[str, TaskSummary] = {}
    levels: dict[str, _Level] = {}
    for number, task in enumerate(tasks):
        features = {name: None for student in students.values() for name in student.domain}
        frame = load_window(events, pinned, task, config.start, config.group, list(features))
        if task == tasks[0]:
            window = _window(frame, events, task)
        frame = replace(frame, levels_why=_levels_why(tasks, task, models))
        without = {name: one.left_out for name, one in scored[tasks[0]].students.items()} if scored else {}
        rule, place = events.schema.rule(task), folder / str(number)
        asked = Asked(place, predictions.path, recorded, task, rule, config.bootstrap)
        found = _task(run, frame, asked)
        scored[task], levels[task] = found.all(teachers, students, without), _Level(asked, found.frame)
    first = scored.pop(tasks[0])
    summary = summarise(
        teacher=first.teacher,
        students=first.students,
        name=run.name,
        created=datetime.now(UTC),
        tasks=list(tasks),
        group=config.group,
        confidence=config.confidence,
        rows=first.rows,
        window=window,
        versions=_versions(pinned, recorded),
        further_tasks=scored,
        baselines=baselines,
        graded={
            name: _graded([levels[task] for task in of], teachers, students, first.students)
            for name, of in events.schema.levels.items()
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

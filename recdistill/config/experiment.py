"""The whole experiment file."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from recdistill.config.base import Name, Positive, Strict
from recdistill.config.data import DataConfig, LabelsConfig, SamplingConfig, check_binary
from recdistill.config.models import (
    CandidatesConfig,
    CrossfitConfig,
    ModelConfig,
    StudentConfig,
    TeacherConfig,
    TeacherHiddenConfig,
)
from recdistill.config.pruned_from import check_pruned_from
from recdistill.config.storage import StorageConfig
from recdistill.config.stream import StreamConfig
from recdistill.config.workers import WorkersConfig
from recdistill.defaults import GIVEN_HISTORY
from recdistill.errors import did_you_mean

__all__ = ["ControlName", "EvaluateConfig", "Experiment", "named_models"]

ControlName = Literal["self", "compute"]
Seed = Annotated[int, Field(ge=0, lt=2**32)]


class EvaluateConfig(Strict):
    """What is scored, and how certain the answer must be."""

    start: float = Field(default=0.5, ge=0, lt=1)  # the window: rows after this share of the log
    seeds: list[Seed] = Field(default=[0, 1, 2, 3, 4], min_length=1, max_length=1000)
    group: Literal["request", "user"] = "user"
    teacher_seeds: Positive = (
        1  # the teacher is trained from so many; students of seed i learn from that of i modulo it
    )
    bootstrap: int = Field(default=1000, ge=1, le=100_000)
    confidence: float = Field(default=0.95, gt=0.5, lt=1)

    @field_validator("seeds")
    @classmethod
    def _distinct(cls, seeds: list[int]) -> list[int]:
        if len(set(seeds)) < len(seeds):
            raise ValueError("a seed may stand once")
        return seeds


class Experiment(Strict):
    """The whole experiment file."""

    name: Name
    data: DataConfig
    labels: LabelsConfig = LabelsConfig()
    teacher: TeacherConfig = TeacherConfig()
    teachers: dict[Name, TeacherConfig] = {}  # further ones; their models are named teacher-NAME
    students: dict[Name, StudentConfig] = {"student": StudentConfig()}
    crossfit: CrossfitConfig = CrossfitConfig()
    candidates: CandidatesConfig = CandidatesConfig()
    teacher_hidden: TeacherHiddenConfig = TeacherHiddenConfig()
    controls: list[ControlName] = []  # further students that show what part of eta is the teacher's
    evaluate: EvaluateConfig = EvaluateConfig()
    stream: StreamConfig = StreamConfig()
    checkpoint_rows: Positive = 100_000  # rows per commit of predictions and per checkpoint
    processes: int = Field(default=2, ge=1, le=1024)  # students trained at a time
    workers: WorkersConfig = WorkersConfig()  # who read the log
    tracking: list[Literal["mlflow", "tensorboard"]] = []  # where a run is shown too
    storage: StorageConfig = Field(default=StorageConfig(), exclude=True)  # of no run's files: it may hold secrets
    export_check: bool = True  # tell before training which student's network of your own could not be served

    @property
    def crossfits(self) -> bool:
        """Return whether any student learns from cross-fitted signals."""
        return any(student.distill.signals == "crossfit" for student in self.students.values())

    @field_validator("tracking")
    @classmethod
    def _each_once(cls, tracking: list[str]) -> list[str]:
        if len(set(tracking)) < len(tracking):
            raise ValueError("a tracker may stand once")
        return tracking

    @model_validator(mode="after")
    def _has_the_histories_it_needs(self) -> Experiment:
        """Refuse what needs users or times of a log that lacks them."""
        lacks = self.data.lacks
        asked = {
            "labels.window_s": "time" in self.data.lacking and self.labels.window_s is not None,
            "teacher_hidden.width": self.teacher_hidden.width > 0,
            "pretrain": any(model.pretrain for model in named_models(self).values()),
            "crossfit.by": "user" in self.data.lacking and self.crossfit.by == "user",
        }
        for key, given in asked.items():
            if lacks and given:
                raise ValueError(f"{key}: needs what the log does not have ({lacks}); leave it out")
        if asked["pretrain"] and GIVEN_HISTORY in self.data.columns.sequences:
            raise ValueError(
                "pretrain: learns from what users did over the log, and rows bring their own histories "
                f"(data.columns.sequences.{GIVEN_HISTORY}); leave one of them out"
            )
        return self

    @model_validator(mode="after")
    def _has_the_labels_it_needs(self) -> Experiment:
        """Refuse what counts positives and negatives of a log whose labels are neither."""
        columns = self.data.columns
        first = next(iter(columns.tasks))
        values = next(iter(columns.regression), first)
        asked = {
            f"{name}.sampling": values for name, one in named_models(self).items() if one.sampling != SamplingConfig()
        }
        if self.labels.window_s is not None:
            asked |= {"labels.window_s": next(iter(columns.regression), next(iter(columns.soft), first))}
        if columns.regression:
            for name, student in self.students.items():
                asked |= student.distill.of_outcomes(f"students.{name}.distill", first, values, columns.regression)
        check_binary(asked, columns)
        return self

    @model_validator(mode="after")
    def _controls_can_be_trained(self) -> Experiment:
        if len(set(self.controls)) < len(self.controls):
            raise ValueError("controls: each may stand once")
        if "self" in self.controls and len(self.evaluate.seeds) < 2:
            raise ValueError("controls: self is taught by the raw student of another seed; give at least 2 seeds")
        for name, student in self.students.items() if "self" in self.controls else ():
            if student.distill.signals == "crossfit" or student.distill.teacher_hidden:
                raise ValueError(
                    f"controls: self: students.{name} learns from cross-fitted signals or hidden states, which a "
                    "teacher of its own kind does not write; leave out self or that student"
                )
        return self

    @model_validator(mode="after")
    def _enough_teacher_seeds(self) -> Experiment:
        if self.evaluate.teacher_seeds > len(self.evaluate.seeds):
            raise ValueError(
                f"evaluate.teacher_seeds {self.evaluate.teacher_seeds}: each teaches at least one student; give as "
                f"many seeds, there are {len(self.evaluate.seeds)}"
            )
        if self.evaluate.teacher_seeds > 1 and self.crossfits:
            raise ValueError("evaluate.teacher_seeds: cross-fitted signals come from the folds of one teacher")
        return self

    @model_validator(mode="after")
    def _enough_candidates(self) -> Experiment:
        for name, student in self.students.items():
            if student.distill.candidates > self.candidates.count:
                raise ValueError(
                    f"students.{name}.distill.candidates {student.distill.candidates}: the teacher scores "
                    f"candidates.count {self.candidates.count}"
                )
            if student.distill.teacher_hidden and not self.teacher_hidden.width:
                raise ValueError(
                    f"students.{name}.distill.teacher_hidden {student.distill.teacher_hidden}: the teacher writes "
                    "none; set teacher_hidden.width"
                )
        return self

    @model_validator(mode="after")
    def _teachers_exist(self) -> Experiment:
        names = ["teacher", *self.teachers, *self.students]
        if len(set(names)) < len(names):
            raise ValueError("a teacher and a student, or two teachers, have one name")
        for name, student in self.students.items():
            if name.startswith("teacher-"):
                raise ValueError(f"students.{name}: names that begin with teacher- are of teachers; choose another")
            for teacher in student.distill.teachers:
                if teacher not in names:
                    raise ValueError(
                        f"students.{name}.distill.teachers: there is no '{teacher}'{did_you_mean(teacher, names)}"
                    )
                if name in self._all_teachers(teacher):
                    raise ValueError(f"students.{name}.distill.teachers: '{teacher}' learns from '{name}'")
        return self

    def _all_teachers(self, name: str) -> set[str]:
        """Return `name` and everybody it learns from, by way of others too; each is looked at once."""
        found, left = {name}, [name]
        while left:
            further = self.students[one].distill.teachers if (one := left.pop()) in self.students else []
            left += [other for other in further if other not in found]
            found |= set(further)
        return found

    @model_validator(mode="after")
    def _pruned_from_another(self) -> Experiment:
        """Refuse a student that is to go on as one which is not there, learns otherwise, or is too late."""
        for name, student in self.students.items():
            if student.pruned_from is not None:
                check_pruned_from(f"students.{name}.pruned_from", student, self.students, self.evaluate.start)
        return self

    @model_validator(mode="after")
    def _later_than_crossfit(self) -> Experiment:
        if self.crossfits and not self.teacher.stale.fresh:
            raise ValueError(
                "teacher.stale: cross-fitted teachers predict at the end, with all that they learned; leave it out"
            )
        if self.crossfits and self.teacher.pretrain:
            raise ValueError("teacher.pretrain: cross-fitted teachers do not go through the log in order; leave it out")
        if self.crossfits and self.evaluate.start < self.crossfit.share and self.crossfit.share < 1:
            raise ValueError(
                f"evaluate.start {self.evaluate.start:g} lies before crossfit.share {self.crossfit.share:g}: "
                "students would be scored on samples whose signals knew what came later"
            )
        return self


def named_models(experiment: Experiment) -> dict[str, ModelConfig]:
    """Return every model of an experiment by where it stands in its file."""
    return {
        "teacher": experiment.teacher,
        **{f"teachers.{name}": config for name, config in experiment.teachers.items()},
        **{f"students.{name}": config for name, config in experiment.students.items()},
    }

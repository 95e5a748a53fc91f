"""The whole experiment file."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from recdistill.config.base import Name, Positive, Strict
from recdistill.config.data import DataConfig
from recdistill.config.models import CandidatesConfig, CrossfitConfig, StatesConfig, StudentConfig, TeacherConfig
from recdistill.config.stream import StreamConfig
from recdistill.errors import did_you_mean

__all__ = ["EvaluateConfig", "Experiment"]

Seed = Annotated[int, Field(ge=0, lt=2**32)]


class EvaluateConfig(Strict):
    """What is scored, and how certain the answer must be."""

    start: float = Field(default=0.5, ge=0, lt=1)  # the window: rows after this share of the log
    seeds: list[Seed] = Field(default=[0, 1, 2, 3, 4], min_length=1, max_length=1000)
    group: Literal["request", "user"] = "user"
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
    teacher: TeacherConfig = TeacherConfig()
    teachers: dict[Name, TeacherConfig] = {}  # further ones, as teacher-NAME
    students: dict[Name, StudentConfig] = Field(default={"student": StudentConfig()}, min_length=1)
    crossfit: CrossfitConfig = CrossfitConfig()
    candidates: CandidatesConfig = CandidatesConfig()
    states: StatesConfig = StatesConfig()
    evaluate: EvaluateConfig = EvaluateConfig()
    stream: StreamConfig = StreamConfig()
    checkpoint_rows: Positive = 100_000  # rows per commit of predictions and per checkpoint
    processes: int = Field(default=2, ge=1, le=1024)  # students trained at a time

    @property
    def crossfits(self) -> bool:
        """Return whether any student hears cross-fitted signals."""
        return any(student.distill.signals == "crossfit" for student in self.students.values())

    @model_validator(mode="after")
    def _enough_candidates(self) -> Experiment:
        for name, student in self.students.items():
            if student.distill.candidates > self.candidates.count:
                raise ValueError(
                    f"students.{name}.distill.candidates {student.distill.candidates}: the teacher is asked about "
                    f"candidates.count {self.candidates.count}"
                )
            if student.distill.states and not self.states.width:
                raise ValueError(
                    f"students.{name}.distill.states {student.distill.states}: the teacher writes none; set "
                    "states.width"
                )
        return self

    @model_validator(mode="after")
    def _hears_somebody(self) -> Experiment:
        names = ["teacher", *self.teachers, *self.students]
        if len(set(names)) < len(names):
            raise ValueError("a teacher and a student, or two teachers, have one name")
        for name, student in self.students.items():
            if name.startswith("teacher-"):
                raise ValueError(f"students.{name}: names that begin with teacher- are of teachers; choose another")
            for heard in student.distill.hears:
                if heard not in names:
                    raise ValueError(
                        f"students.{name}.distill.hears: there is no '{heard}'{did_you_mean(heard, names)}"
                    )
                if name in self._heard_through(heard):
                    raise ValueError(f"students.{name}.distill.hears: '{heard}' hears '{name}'")
        return self

    def _heard_through(self, heard: str) -> set[str]:
        """Return `heard`, and everybody whom it hears, by way of others too; each is looked at once."""
        found, left = {heard}, [heard]
        while left:
            further = self.students[name].distill.hears if (name := left.pop()) in self.students else []
            left += [each for each in further if each not in found]
            found |= set(further)
        return found

    @model_validator(mode="after")
    def _later_than_crossfit(self) -> Experiment:
        if self.crossfits and not self.teacher.stale.fresh:
            raise ValueError(
                "teacher.stale: cross-fitted teachers speak in the end, with all that they know; leave it out"
            )
        if self.crossfits and self.teacher.pretrain:
            raise ValueError("teacher.pretrain: cross-fitted teachers do not go through the log in order; leave it out")
        if self.crossfits and self.evaluate.start < self.crossfit.share and self.crossfit.share < 1:
            raise ValueError(
                f"evaluate.start {self.evaluate.start:g} lies before crossfit.share {self.crossfit.share:g}: "
                "students would be scored on samples whose signals knew what came later"
            )
        return self

"""What `recdistill choose` is asked, and which students it tries for it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from recdistill.config.candidates import RECIPE, candidate_grid, own_name, recipe_of
from recdistill.config.experiment import Experiment
from recdistill.config.grid import Grid, read_grid, with_methods
from recdistill.config.load import load_file
from recdistill.config.models import StudentConfig
from recdistill.config.sizes import PruneConfig
from recdistill.errors import UserError
from recdistill.evaluate.choice import Budget
from recdistill.train.build import check_models
from recdistill.train.width_schedule import can_change

__all__ = ["Study", "often"]

FIRST_SEEDS = 2  # of the rounds before the last
USUAL = "the students that are tried"
CHECKPOINTS = 10  # of a round, at least, where a student does something between two


@dataclass(frozen=True)
class Study:
    """What is asked: the experiment file, the grid of students or None for the usual ones, the budget, how many
    candidates a request has; data and assignments as of `recdistill run`.
    """

    config: Path
    grid: Path | None
    budget: Budget
    candidates: int
    data: Path | None
    assignments: list[str]

    def experiment(self, names: list[str] | None = None) -> tuple[Experiment, dict[str, dict[str, Any]]]:
        """Return (an experiment of the students `names`, None for all, what each changes)."""
        grid, where = self._grid
        experiment, changes = with_methods(self.config, grid, where, self.assignments, "choice")
        self._check_alone(experiment.students)
        _check_comparable(where, experiment.students)
        kept = [*changes] if names is None else names
        students = {name: experiment.students[name] for name in kept}
        return experiment.model_copy(update={"students": students}), {name: changes[name] for name in kept}

    def of_round(self, names: list[str], rows: int, limit: int | None) -> tuple[Experiment, dict[str, dict[str, Any]]]:
        """Return (what a round of about `rows` samples trains, what each student changes). limit: the rows that it
        reads; None: all, and it has every seed and control.
        """
        experiment, changes = self.experiment(names)
        experiment = often(experiment, rows)
        if limit is None:
            return experiment, changes
        first = {"seeds": experiment.evaluate.seeds[:FIRST_SEEDS], "teacher_seeds": 1}
        evaluate = experiment.evaluate.model_copy(update=first)
        data = experiment.data.model_copy(update={"limit": limit})
        return experiment.model_copy(update={"evaluate": evaluate, "data": data, "controls": []}), changes

    def quantised(self, names: Collection[str], metric: str) -> list[str]:
        """Return which students are served with rows of int8; none of a regression, which has no NE to know by what
        they cost.
        """
        return [name for name in names if name == RECIPE and self.grid is None and metric in ("auc", "gauc")]

    def stale_teachers(self) -> list[str]:
        """Return which of the teachers of the experiment's student predict with old weights."""
        experiment = load_file(self.config, self.assignments)
        teachers = {"teacher": experiment.teacher, **experiment.teachers}
        named = self._own()[1].distill.teachers
        return [name for name in named if name in teachers and not teachers[name].stale.fresh]

    @cached_property
    def _grid(self) -> tuple[Grid, str]:
        if self.grid is not None:
            return read_grid(self.grid), str(self.grid)
        left = {name: keys for name, keys in self._usual.methods.items() if name not in self.not_tried}
        return self._usual.model_copy(update={"methods": left}), USUAL

    @cached_property
    def not_tried(self) -> dict[str, str]:
        """Return which of the usual students a run of them would refuse, and why."""
        if self.grid is not None:
            return {}
        name, student = self._own()
        check_models(load_file(self.config, self.assignments).model_copy(update={"students": {name: student}}))
        refused = {method: self._refused(method) for method in self._usual.methods}
        return {method: why for method, why in refused.items() if why is not None}

    def _refused(self, method: str) -> str | None:
        grid = self._usual.model_copy(update={"methods": {method: self._usual.methods[method]}})
        try:
            check_models(with_methods(self.config, grid, USUAL, self.assignments)[0])
        except UserError as error:
            return str(error).removeprefix(f"{self.config} with {USUAL}: ").removeprefix(f"students.{method}: ")
        return None

    @cached_property
    def _usual(self) -> Grid:
        name, student = self._own()
        return candidate_grid(name, student, _recipe(student))

    def _own(self) -> tuple[str, StudentConfig]:
        students = load_file(self.config, self.assignments).students
        if not students:
            raise UserError(f"{self.config}: names no student; give one, or several under methods: in a --grid")
        self._check_alone(students)
        name, student = next(iter(students.items()))
        _check_teachers(f"{self.config}: students.{name}", student, students)
        return name, student

    def _check_alone(self, students: Mapping[str, StudentConfig]) -> None:
        """Raise UserError for a student that goes on as another one, which a round may leave out."""
        for name, student in students.items():
            if student.pruned_from is not None:
                raise UserError(
                    f"{self.config}: students.{name}.pruned_from: a round may leave '{student.pruned_from.student}' "
                    "out; name students without, or use recdistill ablate"
                )

    def recipe_of(self, names: Collection[str]) -> tuple[str, str] | None:
        """Return, of the students `names`, the one that the recipe makes, and the recipe; None unless both are there,
        and of a grid's.
        """
        both = None if self.grid is not None else (own_name(self._own()[1]), RECIPE)
        return both if both is not None and {*both} <= {*names} else None


def _check_comparable(where: str, students: Mapping[str, StudentConfig]) -> None:
    """Raise UserError for students that are taught by each other, or scored on different rows."""
    for name, student in students.items():
        _check_teachers(f"{where}: {name}", student, students)
    if len({tuple(student.domain.items()) for student in students.values()}) > 1:
        raise UserError(f"{where}: students of several domains are scored on different rows; try those of one domain")


def _check_teachers(where: str, student: StudentConfig, students: Collection[str]) -> None:
    for teacher in student.distill.teachers:
        if teacher in students:
            raise UserError(
                f"{where}: learns from the student {teacher}, which is not there in every round; choose tries students "
                "of teachers alone"
            )


def _recipe(student: StudentConfig) -> dict[str, Any]:
    """Return the keys of the recipe, none for a student whose width cannot change."""
    changes = recipe_of(student)
    pruned = {key: PruneConfig.model_validate(value) for key, value in changes.items()}
    return changes if changes and can_change(student.model_copy(update=pruned)) else {}


def often(experiment: Experiment, rows: int) -> Experiment:
    """Return an experiment with checkpoints enough, where students do something at them: change their width, or begin
    from something.
    """
    if not any(map(_at_checkpoints, experiment.students.values())):
        return experiment
    return experiment.model_copy(
        update={"checkpoint_rows": min(experiment.checkpoint_rows, max(1, rows // CHECKPOINTS))}
    )


def _at_checkpoints(student: StudentConfig) -> bool:
    return any((student.prune, student.alternate, student.pretrain, student.distill.warm_start))

"""What `recdistill choose` is asked, and which students it tries for it."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from recdistill.config.candidates import RECIPE, candidate_grid, own_name, recipe_of
from recdistill.config.experiment import Experiment
from recdistill.config.grid import Grid, read_grid, with_methods
from recdistill.config.load import load_file
from recdistill.config.models import PruneConfig, StudentConfig
from recdistill.errors import UserError
from recdistill.evaluate.choice import Budget
from recdistill.train.width_schedule import can_change

__all__ = ["Study", "often"]

CHECKPOINTS = 10  # of a round, at least, where a student is pruned, which is done between two


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
        kept = [*changes] if names is None else names
        students = {name: experiment.students[name] for name in kept}
        return experiment.model_copy(update={"students": students}), {name: changes[name] for name in kept}

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
        name, student = self._own()
        return candidate_grid(name, student, _recipe(student)), "the students that are tried"

    def _own(self) -> tuple[str, StudentConfig]:
        students = load_file(self.config, self.assignments).students
        if not students:
            raise UserError(f"{self.config}: names no student; give one, or several under methods: in a --grid")
        return next(iter(students.items()))

    def recipe_of(self, names: Collection[str]) -> tuple[str, str] | None:
        """Return, of the students `names`, the one that the recipe makes, and the recipe; None unless both are there,
        and of a grid's.
        """
        both = None if self.grid is not None else (own_name(self._own()[1]), RECIPE)
        return both if both is not None and {*both} <= {*names} else None


def _recipe(student: StudentConfig) -> dict[str, Any]:
    """Return the keys of the recipe, none for a student whose width cannot change."""
    changes = recipe_of(student)
    pruned = {key: PruneConfig.model_validate(value) for key, value in changes.items()}
    return changes if changes and can_change(student.model_copy(update=pruned)) else {}


def often(experiment: Experiment, rows: int) -> Experiment:
    """Return an experiment with checkpoints enough to prune between, where a student is pruned."""
    if all(student.prune is None for student in experiment.students.values()):
        return experiment
    return experiment.model_copy(
        update={"checkpoint_rows": min(experiment.checkpoint_rows, max(1, rows // CHECKPOINTS))}
    )

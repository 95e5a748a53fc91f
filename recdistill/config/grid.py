"""A grid: the methods that one student is tried with, as a file; it becomes one experiment with a student per method.

student: light                       # which of the experiment's; its first without
set: {candidates.count: 4}           # keys of the whole experiment, as --set gives them
methods:                             # name -> keys of that student that differ
  two-towers: {distill.weight: 2.0}
grid: {distill.weight: [1, 2, 4]}    # and every combination of these
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from recdistill.config.base import Name, Strict, shortened, slug
from recdistill.config.experiment import Experiment
from recdistill.config.load import checked, override, parsed, put, read_text
from recdistill.errors import UserError, did_you_mean

__all__ = ["Grid", "load_grid", "methods_of", "read_grid", "with_methods"]

MAX_METHODS = 200  # a slip in a grid should not train for a month


class Grid(Strict):
    """The whole grid file; see the module."""

    student: str | None = None
    set: dict[str, Any] = {}
    methods: dict[Name, dict[str, Any]] = {}
    grid: dict[str, Annotated[list[Any], Field(min_length=1)]] = {}


def load_grid(
    config: Path, grid: Path, assignments: list[str] | None = None
) -> tuple[Experiment, dict[str, dict[str, Any]]]:
    """Return (the experiment of a student per method, what each method changes).

    Raises UserError that names the file and the first wrong key.
    """
    read_text(config)  # of two files that are not there the first is named
    return with_methods(config, read_grid(grid), str(grid), assignments)


def read_grid(grid: Path) -> Grid:
    """Return a grid file; UserError that names it and the first wrong key."""
    return checked(Grid, parsed(read_text(grid), str(grid)), str(grid))


def with_methods(
    config: Path, grid: Grid, where: str, assignments: list[str] | None = None, suffix: str = "ablation"
) -> tuple[Experiment, dict[str, dict[str, Any]]]:
    """Return (an experiment file with a student per method of the grid, what each changes); where: of messages."""
    tree = parsed(read_text(config), str(config))
    for key, value in grid.set.items():
        put(tree, key, value, f"{where}: set")
    for assignment in assignments or []:
        override(tree, assignment)
    methods, students = methods_of(grid, where), _students(tree, str(config))
    name = grid.student or next(iter(students))
    if name not in students:
        raise UserError(f"{where}: student: the experiment has no '{name}'{did_you_mean(name, students)}")
    tree["students"] = {
        method: _changed(students[name] or {}, changes, f"{where}: {method}") for method, changes in methods.items()
    }
    tree["name"] = f"{tree.get('name', '')}-{suffix}"
    return checked(Experiment, tree, f"{config} with {where}"), methods


def _students(tree: dict[str, Any], where: str) -> dict[str, Any]:
    """Return the students of an experiment as they are written; UserError where they are no names with keys."""
    students = tree.get("students") or {"student": {}}
    if not isinstance(students, dict):
        raise UserError(f"{where}: students: give each a name and its keys, like light: {{width: 16}}")
    for name, keys in students.items():
        if not isinstance(keys, dict | None):
            raise UserError(f"{where}: students.{name}: expected keys like 'width:', got {str(keys)[:60]!r}")
    return students


def methods_of(grid: Grid, where: str) -> dict[str, dict[str, Any]]:
    """Return every method by name with the keys it changes; UserError when there are none, too many, or two of one
    name.
    """
    many = len(grid.methods) + (math.prod(map(len, grid.grid.values())) if grid.grid else 0)
    if not many:
        raise UserError(f"{where}: names no methods; give some under methods: or grid:")
    if many > MAX_METHODS:
        raise UserError(f"{where}: {many:,} methods, at most {MAX_METHODS}; leave some of the grid out")
    methods = dict(grid.methods)
    for name, changes in _combinations(grid.grid):
        if name in methods:
            raise UserError(
                f"{where}: two methods have the name '{name}'; give them names of their own under methods:, and leave "
                "them out of grid:"
            )
        methods[name] = changes
    return methods


def _combinations(axes: dict[str, list[Any]]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield (name, changes) of every combination, named by the last part of each key and its value."""
    for values in product(*axes.values()) if axes else ():
        changes = dict(zip(axes, values, strict=True))
        yield (
            shortened(",".join(f"{slug(key.rpartition('.')[2])}={slug(value)}" for key, value in changes.items())),
            changes,
        )


def _changed(student: dict[str, Any], changes: dict[str, Any], where: str) -> dict[str, Any]:
    """Return a copy of a student's keys with those of a method."""
    tree = copy.deepcopy(student)
    for key, value in changes.items():
        put(tree, key, value, where)
    return tree

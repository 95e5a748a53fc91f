"""Which students `recdistill choose` tries where no grid names them: the recipe known from industry (distil, prune,
distil again; what follows it, quantised rows, is done as it is exported), and light kinds, half to twice as wide.
"""

from __future__ import annotations

from typing import Any

from recdistill.config.base import shortened, slug
from recdistill.config.grid import Grid
from recdistill.config.models import StudentConfig

__all__ = ["RECIPE", "candidate_grid", "own_name", "recipe_of"]

KINDS = ("pooled-mlp", "dcn-v2", "din", "target-attention")
TIMES = (0.5, 1, 2)  # the width, as a multiple of the student's own
SHORT = 10  # events of a short history
RECIPE, PRUNED_FROM = "recipe", 2  # the recipe's name, and the width that it begins with, as a multiple of its own


def candidate_grid(name: str, student: StudentConfig, recipe: dict[str, Any]) -> Grid:
    """Return the grid of a student's candidates: first the one that the keys of `recipe` make of it, where there are
    any; its own kind and the light ones, each in three widths; its own kind with a short history too, where its own is
    longer. Rates, batch and distillation are the student's in all.
    """
    methods = ({RECIPE: recipe} if recipe else {}) | {
        _named(kind, width): _changes(kind, width, student)
        for kind in dict.fromkeys((student.kind, *KINDS))
        for width in _widths(student)
    }
    if student.history > SHORT:
        methods |= {
            _named(student.kind, width, "-short"): _changes(student.kind, width, student) | {"history": SHORT}
            for width in _widths(student)
        }
    return Grid(student=name, methods=methods)


def own_name(student: StudentConfig) -> str:
    """Return the name of the candidate that is the student as it stands in the experiment."""
    return _named(student.kind, student.width)


def recipe_of(student: StudentConfig) -> dict[str, Any]:
    """Return the keys that the recipe changes: the student, distilled at twice its width, pruned to its own, distilled
    again; by magnitude, which needs no steps to be measured in, as a round of few rows has few. None where another key
    is for a student of one size; whether the kind's width can change is another question.
    """
    network = student.distill.warm_start and "network" in student.distill.warm_start.parts
    if network or student.rows or student.start_from or student.alternate or student.prune:
        return {}
    return {"prune": {"from": {"width": PRUNED_FROM * student.width}, "importance": "magnitude"}}


def _named(kind: str, width: int, end: str = "") -> str:
    """Return a candidate's name; a kind of the user's own has signs that no name has."""
    name = slug(f"{kind}-{width}{end}")
    return shortened(name if name[0].isalnum() else f"own{name}")


def _widths(student: StudentConfig) -> list[int]:
    """Return the widths to try, each a multiple of what the student's heads need."""
    heads = student.options.get("heads", 1)
    step = heads if isinstance(heads, int) and heads > 0 else 1
    return sorted({max(step, round(student.width * times / step) * step) for times in TIMES})


def _changes(kind: str, width: int, student: StudentConfig) -> dict[str, Any]:
    return {"width": width} if kind == student.kind else {"kind": kind, "width": width, "options": {}}

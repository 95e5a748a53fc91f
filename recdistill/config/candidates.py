"""Which students `recdistill choose` tries where no grid names them: light kinds, half to twice as wide."""

from __future__ import annotations

from typing import Any

from recdistill.config.grid import Grid
from recdistill.config.models import StudentConfig

__all__ = ["candidate_grid"]

KINDS = ("pooled-mlp", "dcn-v2", "din", "target-attention")
TIMES = (0.5, 1, 2)  # the width, as a multiple of the student's own
SHORT = 10  # events of a short history


def candidate_grid(name: str, student: StudentConfig) -> Grid:
    """Return the grid of a student's candidates: its own kind and the light ones, each in three widths; its own kind
    with a short history too, where its own is longer. Rates, batch and distillation are the student's in all.
    """
    methods = {
        f"{kind}-{width}": _changes(kind, width, student)
        for kind in dict.fromkeys((student.kind, *KINDS))
        for width in _widths(student)
    }
    if student.history > SHORT:
        methods |= {
            f"{student.kind}-{width}-short": _changes(student.kind, width, student) | {"history": SHORT}
            for width in _widths(student)
        }
    return Grid(student=name, methods=methods)


def _widths(student: StudentConfig) -> list[int]:
    """Return the widths to try, each a multiple of what the student's heads need."""
    heads = student.options.get("heads", 1)
    step = heads if isinstance(heads, int) and heads > 0 else 1
    return sorted({max(step, round(student.width * times / step) * step) for times in TIMES})


def _changes(kind: str, width: int, student: StudentConfig) -> dict[str, Any]:
    return {"width": width} if kind == student.kind else {"kind": kind, "width": width, "options": {}}

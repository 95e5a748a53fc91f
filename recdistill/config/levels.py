"""A task with several levels: one task for each, which is positive from that level on."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

__all__ = ["levels_of", "with_levels"]


def with_levels(columns: Any) -> Any:
    """Return the mapping of columns with each `task: {column, levels: [a, b]}` as tasks task_a and task_b, positive
    from a and from b on; its label time is that of both. ValueError for levels that are none.
    """
    tasks = columns.get("tasks") if isinstance(columns, Mapping) else None
    if not isinstance(tasks, Mapping):
        return columns
    named = {task: _names(task, spec) for task, spec in tasks.items()}
    made: dict[str, Any] = {}
    for task, spec in tasks.items():
        levels = named[task]
        new = {name: {"column": spec["column"], "at_least": level} for name, level in levels.items()} or {task: spec}
        for name in new.keys() & made.keys():
            raise ValueError(f"tasks: '{name}' stands there twice, once as a level; rename one")
        made |= new
    times = columns.get("label_times") or {}
    if not isinstance(times, Mapping):
        return {**columns, "tasks": made}
    spread = {name: column for task, column in times.items() for name in named.get(task) or (task,)}
    return {**columns, "tasks": made, "label_times": spread}


def levels_of(thresholds: Mapping[str, tuple[str, float]]) -> dict[str, tuple[str, ...]]:
    """Return the tasks of each label with several levels, ascending, of tasks -> (column, positive from): those of one
    column whose names are as `with_levels` makes them.
    """
    found: dict[tuple[str, str], dict[float, str]] = {}
    for task, (column, level) in thresholds.items():
        label, mark, end = task.rpartition("_")
        if mark and end == f"{level:g}":
            found.setdefault((label, column), {})[level] = task
    return {
        label: tuple(tasks[level] for level in sorted(tasks)) for (label, _), tasks in found.items() if len(tasks) > 1
    }


def _names(task: str, spec: Any) -> dict[str, float]:
    """Return the names of a task's levels, ascending; none for a task without."""
    if not isinstance(spec, Mapping) or "levels" not in spec:
        return {}
    levels = spec["levels"]
    if set(spec) != {"column", "levels"}:
        raise ValueError(f"tasks.{task}: levels goes with column alone")
    if not isinstance(levels, list) or not levels or not all(_is_number(level) for level in levels):
        raise ValueError(f"tasks.{task}.levels: give numbers, as [3, 4, 5]; got {levels!r}")
    if not all(one < other for one, other in pairwise(levels)):
        raise ValueError(f"tasks.{task}.levels: must ascend, each once; got {levels}")
    return {f"{task}_{level:g}": float(level) for level in levels}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)

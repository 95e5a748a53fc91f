"""Teachers and students as a notebook writes them down; their keys are those of the experiment file."""

from __future__ import annotations

from typing import Any

from torch import nn

from recdistill.config.load import checked
from recdistill.config.models import DistillConfig, StudentConfig, TeacherConfig
from recdistill.models.user_models import kind_of

__all__ = ["Distill", "Student", "Teacher"]


class _Keys:
    """A model as the experiment file has it: a kind and the keys of its group."""

    def __init__(self, kind: str | type[nn.Module], name: str | None, keys: dict[str, Any]) -> None:
        self.name = name
        self.keys = {"kind": kind if isinstance(kind, str) else kind_of(kind), **keys}


class Teacher(_Keys):
    """A large model that students learn from.

    kind: a name as in the experiment file, an nn.Module class, or "package.module:Class". name: of a further teacher;
    None: the run's first. keys: of `teacher` in the experiment file: width, history (events), batch (rows per step),
    options (the class's own arguments), dense_rate, table_rate, ... UserError for a wrong one.
    """

    def __init__(
        self, kind: str | type[nn.Module] = "target-attention", *, name: str | None = None, **keys: Any
    ) -> None:
        super().__init__(kind, name, keys)
        self.config = checked(TeacherConfig, self.keys, "Teacher")


class Distill:
    """How a student learns from its teachers: the keys of `distill` in the experiment file (weight, towers, ...)."""

    def __init__(self, **keys: Any) -> None:
        self.config = checked(DistillConfig, keys, "Distill")
        self.keys = keys


class Student(_Keys):
    """A light model, trained raw and distilled.

    kind, keys: as those of Teacher. name: without one, the name of the run's folder.
    """

    def __init__(self, kind: str | type[nn.Module] = "din", *, name: str | None = None, **keys: Any) -> None:
        super().__init__(kind, name, keys)
        self.config = checked(StudentConfig, self.keys, "Student")

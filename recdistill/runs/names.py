"""The names of models: what a run calls its teachers and students, in its tables, its folders and its pages."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, get_args

from recdistill.errors import UserError

__all__ = ["CROSSFIT", "TEACHER", "ModelName", "is_first_teacher", "is_teacher"]

TEACHER = "teacher"
CROSSFIT = "teacher.crossfit"  # the folds' common name in the predictions table; a version is a fold
Kind = Literal["teacher", "student", "fold", "crossfit", "seed"]
Variant = Literal["raw", "distilled", "self", "compute", ""]
VARIANTS: dict[str, Variant] = {name: name for name in get_args(Variant)}
FORMS: dict[Kind, re.Pattern[str]] = {  # kind -> the text of a name
    "student": re.compile(r"^(?P<name>.+)\.(?P<variant>raw|distilled|self|compute)\.s(?P<number>\d+)$"),
    "crossfit": re.compile(r"^teacher\.crossfit$"),
    "fold": re.compile(r"^teacher\.fold(?P<number>\d+)$"),
    "seed": re.compile(r"^teacher\.s(?P<number>\d+)$"),
    "teacher": re.compile(r"^teacher(?:-(?P<name>.+))?$"),
}


@dataclass(frozen=True)
class ModelName:
    """One model's name. `str(name)` is the text that tables and folders hold, `parse` reads it.

    kind: teacher, student, fold (a teacher that scores one fold), crossfit (all folds together) or seed (the teacher
    again, from another seed). name: of a student, or of a further teacher. variant: of a student: raw, distilled, or a
    control: self, distilled by a raw student of its own kind, or compute, raw with as many rows as the distilled one
    learns. number: the seed, or the fold.
    """

    kind: Kind
    name: str = ""
    variant: Variant = ""
    number: int = 0

    @classmethod
    def parse(cls, text: str) -> ModelName:
        """Return the name that `text` stands for; UserError when it is none."""
        found = cls.find(text)
        if found is None:
            raise UserError(f"'{text}' is no model's name; names look like teacher, teacher-NAME or NAME.distilled.s0")
        return found

    @classmethod
    def find(cls, text: str) -> ModelName | None:
        """Return the name that `text` stands for, None when it is none."""
        for kind, form in FORMS.items():
            if found := form.match(text):
                part = found.groupdict()
                variant = VARIANTS[part.get("variant") or ""]
                return cls(kind, part.get("name") or "", variant, int(part.get("number") or 0))
        return None

    def __str__(self) -> str:
        """Return the text."""
        if self.kind == "student":
            return f"{self.name}.{self.variant}.s{self.number}"
        if self.kind == "seed":
            return f"{TEACHER}.s{self.number}"
        if self.kind == "fold":
            return f"{TEACHER}.fold{self.number}"
        return CROSSFIT if self.kind == "crossfit" else f"{TEACHER}-{self.name}" if self.name else TEACHER

    @property
    def is_teacher(self) -> bool:
        """Return whether students may learn from it as a teacher of the experiment file."""
        return self.kind == "teacher"


def is_first_teacher(model: str) -> bool:
    """Return whether `model` is the first teacher of the experiment, from whatever seed."""
    return model == TEACHER or ModelName.parse(model).kind == "seed"


def is_teacher(model: str) -> bool:
    """Return whether `model` is the name of a teacher: `teacher`, or `teacher-NAME`."""
    found = ModelName.find(model)
    return found is not None and found.is_teacher

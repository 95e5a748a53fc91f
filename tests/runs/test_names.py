"""The names of models: read and written alike, and which of them are teachers'."""

from __future__ import annotations

import pytest

from recdistill.errors import UserError
from recdistill.runs.names import ModelName, is_teacher

NAMES = {
    "teacher": ModelName("teacher"),
    "teacher-b": ModelName("teacher", "b"),
    "teacher.fold3": ModelName("fold", number=3),
    "teacher.crossfit": ModelName("crossfit"),
    "light.raw.s0": ModelName("student", "light", "raw", 0),
    "a.b.distilled.s11": ModelName("student", "a.b", "distilled", 11),
}


@pytest.mark.parametrize("text", NAMES)
def test_a_name_is_read_and_written_alike(text: str) -> None:
    assert ModelName.parse(text) == ModelName.find(text) == NAMES[text] and str(NAMES[text]) == text


@pytest.mark.parametrize("text", ["", "teachers", "teacherish", "light", "light.raw", "light.raw.0", "light.other.s0"])
def test_what_is_no_name_is_refused(text: str) -> None:
    assert ModelName.find(text) is None and not is_teacher(text)
    with pytest.raises(UserError, match="is no model's name"):
        ModelName.parse(text)


def test_teachers_are_known_by_their_names() -> None:
    assert [text for text in NAMES if is_teacher(text)] == ["teacher", "teacher-b"]

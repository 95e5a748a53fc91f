"""The names of models: what is written is read again, and nothing else is a name."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recdistill.errors import UserError
from recdistill.runs.names import CROSSFIT, TEACHER, ModelName

NAMES = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._=,-]{0,20}", fullmatch=True).filter(lambda name: name[:8] != "teacher-")


@given(NAMES, st.sampled_from(["raw", "distilled"]), st.integers(0, 10**6))
def test_a_student_is_read_as_written(name: str, variant: str, seed: int) -> None:
    one = ModelName("student", name, variant, seed)
    assert ModelName.parse(str(one)) == one and not one.is_teacher


@pytest.mark.parametrize(
    ("text", "one"),
    [
        (TEACHER, ModelName("teacher")),
        ("teacher-second", ModelName("teacher", "second")),
        ("teacher.fold3", ModelName("fold", number=3)),
        (CROSSFIT, ModelName("crossfit")),
        ("light.distilled.s0", ModelName("student", "light", "distilled", 0)),
        ("a.raw.s1.raw.s2", ModelName("student", "a.raw.s1", "raw", 2)),
    ],
)
def test_texts(text: str, one: ModelName) -> None:
    assert str(one) == text and ModelName.parse(text) == one
    assert one.is_teacher == (one.kind == "teacher")


@pytest.mark.parametrize("text", ["", "light", "light.cooked.s0", "light.raw.s", "teacher.fold", "teachers"])
def test_what_is_no_name(text: str) -> None:
    with pytest.raises(UserError, match="no model's name"):
        ModelName.parse(text)

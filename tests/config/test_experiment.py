"""Keys of an experiment that do not go together are refused in one line that names them."""

from __future__ import annotations

import pytest

from recdistill.config.load import load_text
from recdistill.errors import UserError


def experiment(*keys: str) -> str:
    """Return an experiment file with further keys."""
    return "{name: mine, data: {}, " + ", ".join(keys) + "}"


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (("students: {light: {distill: {teachers: [techer]}}}",), "there is no 'techer'; did you mean 'teacher'"),
        (("students: {a: {distill: {teachers: [b]}}, b: {distill: {teachers: [a]}}}",), "'b' learns from 'a'"),
        (("students: {a: {distill: {teachers: [a]}}}",), "'a' learns from 'a'"),
        (("students: {teacher: {}}",), "a teacher and a student, or two teachers, have one name"),
        (("students: {light: {distill: {candidates: 2}}}",), "the teacher scores candidates.count 0"),
        (("students: {light: {distill: {teacher_hidden: 2}}}",), "set teacher_hidden.width"),
        (("evaluate: {seeds: [1, 1]}",), "a seed may stand once"),
        (("teacher: {stale: {steps: 1, hours: 1}}",), "name one of steps, hours and versions"),
        (("teacher: {stale: {steps: 1}, epochs: 1}",), "set replay and epochs to 0"),
        (
            ("teacher: {stale: {steps: 1}}", "students: {light: {distill: {signals: crossfit}}}"),
            "cross-fitted teachers predict at the end",
        ),
        (
            ("evaluate: {start: 0.2}", "students: {light: {distill: {signals: crossfit}}}"),
            "lies before crossfit.share 0.5",
        ),
    ],
)
def test_what_does_not_fit_is_refused(keys: tuple[str, ...], message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        load_text(experiment(*keys))
    assert "\n" not in str(caught.value)


def test_a_chain_of_students_is_no_circle() -> None:
    text = experiment("students: {a: {}, b: {distill: {teachers: [a]}}, c: {distill: {teachers: [b, teacher]}}}")
    assert list(load_text(text).students) == ["a", "b", "c"]


def test_only_a_student_that_takes_cross_fitted_signals_needs_folds() -> None:
    assert not load_text(experiment("students: {light: {}}")).crossfits
    assert load_text(experiment("students: {light: {distill: {signals: crossfit}}}")).crossfits

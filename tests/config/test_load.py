"""A wrong experiment file is refused by key and value, in one line."""

import json
import re

import pytest

from recdistill.config.load import load_file, load_text
from recdistill.errors import UserError

GOOD = "name: x\ndata: {path: a.parquet}\n"


def test_defaults_and_overrides():
    config = load_text(GOOD, ["teacher.width=64", "students.light.distill.weight=auto", "evaluate.seeds=[1, 2]"])
    assert (
        config.teacher.width == 64
        and config.students["light"].distill.weight == "auto"
        and config.evaluate.seeds == [1, 2]
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (GOOD + "teachr: {}\n", "unknown key 'teachr'; did you mean 'teacher'?"),
        (GOOD + "teacher: {widht: 3}\n", "unknown key 'teacher.widht'; did you mean 'width'?"),
        (GOOD + "students: {a: {distil: {}}}\n", "did you mean 'distill'?"),
        (GOOD + "teacher: {width: -1}\n", "'teacher.width'"),
        (GOOD + "teacher: {sampling: {negative: 0}}\n", "'teacher.sampling.negative'"),
        ("name: x\ndata: {keep_rates: {click: [1.0, 1.5]}}\n", "data.keep_rates"),
        (
            "name: x\ndata: {columns: {numeric: [label]}}\n",
            "column 'label' is the label of task 'click', so it cannot be",
        ),
        (
            "name: x\ndata: {columns: {tasks: {long: {column: s, at_least: 9}}, categorical: [s]}}\n",
            "column 's' is the label of task 'long'",
        ),
        (
            "name: x\ndata: {columns: {label_times: {click: at}, lists: {at: ','}}}\n",
            "column 'at' is the label time of task 'click'",
        ),
        ("name: [", "is not YAML"),
        ("- 1", "expected keys"),
        ("name: ../up\ndata: {}\n", "'name'"),
        ("data: {}\n", "'name'"),
    ],
)
def test_wrong_files(text, message):
    with pytest.raises(UserError, match="(?s).*") as caught:
        load_text(text)
    assert message in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("assignment", ["x", "=3", "name.deeper=1", "teacher.width=[", "teacher.widht=3"])
def test_wrong_overrides(assignment):
    with pytest.raises(UserError):
        load_text(GOOD, [assignment])


def test_missing_file(tmp_path):
    with pytest.raises(UserError, match="No such file"):
        load_file(tmp_path / "none.yaml")


def test_many_students_with_many_teachers_are_checked_at_once():
    """Each learns from the two before it: more ways lead through them than there are atoms."""
    students = {
        f"s{k}": {"distill": {"teachers": [f"s{j}" for j in (k - 1, k - 2) if j >= 0] or ["teacher"]}}
        for k in range(300)
    }
    assert len(load_text(GOOD + f"students: {json.dumps(students)}\n").students) == 300
    students["s0"]["distill"]["teachers"] = ["s299"]
    with pytest.raises(UserError, match="learns from"):
        load_text(GOOD + f"students: {json.dumps(students)}\n")


@pytest.mark.parametrize("key", ["evaluate.bootstrap", "processes", "stream.source.readers", "evaluate.seeds"])
def test_counts_that_would_fill_the_memory_are_refused(key):
    value = list(range(2000)) if key.endswith("seeds") else 10**9
    with pytest.raises(UserError, match=f"'{key}'"):
        load_text(GOOD, [f"{key}={value}"])


def test_a_long_key_is_not_shown_whole():
    with pytest.raises(UserError) as caught:
        load_text(GOOD + f"{'k' * 100_000}: 1\n")
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    ("assignment", "problem"),
    [
        ("students.ligth.width=8", "there is no 'ligth' under students; did you mean 'light'?"),
        ("teachers.big.width=8", "there is no 'big' under teachers; known: huge"),
    ],
)
def test_a_key_of_a_student_that_is_not_there_makes_no_further_student(assignment: str, problem: str) -> None:
    text = GOOD + "students: {light: {kind: din}}\nteachers: {huge: {}}"
    with pytest.raises(UserError, match=re.escape(f"--set {assignment.partition('=')[0]}: {problem}")):
        load_text(text, [assignment])
    assert load_text(text, ["students.light.width=8"]).students["light"].width == 8
    assert set(load_text(text, ["students.more={width: 8}", "students.more.history=3"]).students) == {"light", "more"}
    assert load_text(GOOD, ["students.student.width=8"]).students["student"].width == 8


@pytest.mark.parametrize(
    ("assignment", "problem"),
    [
        (
            "student.prune={from: {width: 0}}",
            r"'students\.student\.prune\.from\.width': input should be greater than or",
        ),
        (
            "student.prune={from: {hidden: [8, 0]}}",
            r"'students\.student\.prune\.from\.hidden\.1': .* or equal to 1; got '0'",
        ),
        (
            "student.distill.weight=-1",
            r"'students\.student\.distill\.weight': input should be greater than or equal to 0",
        ),
    ],
)
def test_a_value_that_may_be_of_several_types_is_named_as_it_is_written(assignment: str, problem: str) -> None:
    with pytest.raises(UserError, match=problem):
        load_text("name: a\ndata: {reader: simulator}", [f"students.{assignment}"])

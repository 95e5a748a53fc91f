"""A wrong experiment file is refused by key and value, in one line."""

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

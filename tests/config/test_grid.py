"""A grid becomes one experiment with a student per method; what is wrong in it is named with its file."""

from pathlib import Path

import pytest

from recdistill.config.grid import load_grid
from recdistill.errors import UserError
from tests.support.runs import TINY


def loaded(folder: Path, grid: str, *assignments: str):
    config, path = folder / "tiny.yaml", folder / "grid.yaml"
    config.write_text(TINY, encoding="utf-8")
    path.write_text(grid, encoding="utf-8")
    return load_grid(config, path, list(assignments))


def test_methods_and_every_combination_become_students(tmp_path):
    grid = (
        "methods: {soft: {distill.temperature: 2.0}}\ngrid: {distill.weight: [1, auto], width: [4, 8]}\nset: "
        "{processes: 1}"
    )
    experiment, methods = loaded(tmp_path, grid, "teacher.width=8")
    assert list(experiment.students) == [
        "soft",
        "weight=1,width=4",
        "weight=1,width=8",
        "weight=auto,width=4",
        "weight=auto,width=8",
    ]
    assert (
        experiment.students["soft"].distill.temperature == 2.0 and experiment.students["soft"].distill.weight == "auto"
    )
    assert (
        experiment.students["weight=1,width=8"].width == 8
        and experiment.students["weight=1,width=8"].distill.weight == 1
    )
    assert methods["weight=1,width=4"] == {"distill.weight": 1, "width": 4}
    assert (experiment.processes, experiment.teacher.width, experiment.name) == (1, 8, "tiny-ablation")


@pytest.mark.parametrize(
    ("grid", "message"),
    [
        ("method: {}", "grid.yaml: unknown key 'method'; did you mean 'methods'"),
        ("student: lihgt\nmethods: {a: {}}", "grid.yaml: student: the experiment has no 'lihgt'; did you mean 'light'"),
        ("methods: {}", "names no methods"),
        ("methods: {a: {distill.wieght: 1}}", "unknown key 'students.a.distill.wieght'; did you mean 'weight'"),
        ("methods: {'a b': {}}", "methods.a b"),
        ("grid: {width: []}", "grid.width"),
        ("methods: {a: {width.x: 1}}", "grid.yaml: a: 'width' is not a group of keys"),
        (
            "grid: {width: [1,2,3,4,5,6,7,8,9,10,11,12,13,14,15], history: [1,2,3,4,5,6,7,8,9,10,11,12,13,14]}",
            "210 methods, at most 200",
        ),
        (f"grid: {{{', '.join(f'k{at}: {[*range(10)]}' for at in range(12))}}}", "1,000,000,000,000 methods"),
        ("grid: {domain: [{city: 北京}, {city: 上海}]}", "two methods have the name 'domain=__city________'"),
        ("methods: {width=1: {width: 9}}\ngrid: {width: [1, 2]}", "two methods have the name 'width=1'"),
    ],
)
def test_a_wrong_grid_is_refused_by_name(tmp_path, grid, message):
    with pytest.raises(UserError) as caught:
        loaded(tmp_path, grid)
    assert message in str(caught.value) and "grid.yaml" in str(caught.value)


@pytest.mark.parametrize(
    ("students", "message"),
    [
        ("[light]", "tiny.yaml: students: give each a name and its keys"),
        ("{light: 3}", "tiny.yaml: students.light: expected keys like 'width:', got '3'"),
    ],
)
def test_students_that_are_no_names_with_keys_are_refused(tmp_path, students, message):
    with pytest.raises(UserError) as caught:
        loaded(tmp_path, "grid: {width: [4, 8]}", f"students={students}")
    assert message in str(caught.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match="none.yaml: cannot read"):
        load_grid(tmp_path / "none.yaml", tmp_path / "grid.yaml")

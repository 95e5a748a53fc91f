"""Which students are tried where no grid names them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from recdistill.app.choose_study import Study
from recdistill.config.base import check_name
from recdistill.config.candidates import RECIPE, candidate_grid, own_name, recipe_of
from recdistill.config.models import StudentConfig
from recdistill.errors import UserError
from recdistill.evaluate.choice import Budget
from recdistill.models.embeddings.growable import TableOptions
from recdistill.train.build import check_models
from tests.support.networks import WithWidths

OWN = "tests.support.networks"


class ByFours(WithWidths):
    """Its width comes by the four."""

    def __init__(self, width: int, *, tables: TableOptions) -> None:
        if width % 4:
            raise ValueError(f"width is {width}; give a multiple of 4")
        super().__init__(width, tables=tables)


def test_light_kinds_in_three_widths_and_a_short_history() -> None:
    student = StudentConfig(kind="din", width=16, history=50, options={"unit": [8]})
    methods = candidate_grid("light", student, recipe_of(student)).methods
    assert len(methods) == 1 + 4 * 3 + 3 and methods[own_name(student)] == {"width": 16}
    assert next(iter(methods)) == RECIPE and methods[RECIPE]["prune"]["from"] == {"width": 32}
    assert methods["pooled-mlp-8"] == {"kind": "pooled-mlp", "width": 8, "options": {}}
    assert methods["din-32-short"] == {"width": 32, "history": 10}


def test_widths_that_heads_divide_and_no_short_history_below_a_short_one() -> None:
    student = StudentConfig(kind="hstu", width=12, history=8, options={"heads": 4})
    methods = candidate_grid("light", student, {}).methods
    assert {name for name in methods if name.startswith("hstu")} == {"hstu-8", "hstu-12", "hstu-24"}
    assert not any(name.endswith("short") for name in methods)


@pytest.mark.parametrize(
    "keys",
    [
        {"rows": {"most": 8}},
        {"start_from": "runs/january"},
        {"prune": {"from": {"width": 32}}},
        {"alternate": {"to": {"width": 8}}},
        {"distill": {"warm_start": {"parts": ["network"]}}},
    ],
)
def test_there_is_no_recipe_for_a_student_that_cannot_be_pruned(keys: dict[str, Any]) -> None:
    assert recipe_of(StudentConfig.model_validate(keys)) == {}


@pytest.mark.parametrize(
    ("student", "recipe"),
    [
        (f"kind: '{OWN}:WithWidths'", True),
        (f"kind: '{OWN}:NoWidths'", False),
        (f"kind: '{__name__}:ByFours', width: 8", False),  # 8 and 16 it can have, what lies between it cannot
        ("kind: hstu", True),
        ("kind: hstu, options: {transducers: [[0], [1]]}", False),
        ("kind: token-mixer", False),
    ],
)
def test_the_recipe_is_tried_where_a_run_of_it_would_not_be_refused(tmp_path: Path, student: str, recipe: bool) -> None:
    config = tmp_path / "mine.yaml"
    config.write_text(f"name: mine\ndata: {{reader: simulator}}\nstudents: {{light: {{{student}}}}}", encoding="utf-8")
    study = Study(config, None, Budget(), 5, None, [])
    experiment, changes = study.experiment()
    assert (RECIPE in changes) is recipe and [*experiment.students] == [*changes]
    assert (study.recipe_of(changes) is not None) is recipe


def study_of(folder: Path, student: str, grid: str | None = None) -> Study:
    config, methods = folder / "mine.yaml", folder / "grid.yaml"
    text = f"name: mine\ndata: {{reader: simulator}}\nteacher: {{kind: din}}\nstudents: {{light: {{{student}}}}}"
    config.write_text(text, encoding="utf-8")
    if grid is not None:
        methods.write_text(grid, encoding="utf-8")
    return Study(config, None if grid is None else methods, Budget(), 5, None, [])


@pytest.mark.parametrize(
    ("student", "tried", "left", "why"),
    [
        ("kind: din, prune: {from: {width: 32}}", "din-16", "din-32", "prune"),
        ("kind: din, alternate: {to: {width: 8}}", "din-16", "din-8", "alternate"),
        ("kind: transformer, width: 16, options: {heads: 2}, pretrain: {}", "transformer-8", "din-16", "pretrain"),
        ("kind: din, distill: {warm_start: {parts: [network]}}", "din-8", "pooled-mlp-16", "same kind"),
        ("kind: din, rows: {most: 9, narrow: 8}", "din-16", "din-8", "narrow"),
        ("kind: transformer, width: 6, options: {heads: 3}", "transformer-6", "transformer-3", ""),
    ],
)
def test_the_usual_students_that_a_run_would_refuse_are_left_out(
    tmp_path: Path, student: str, tried: str, left: str, why: str
) -> None:
    study = study_of(tmp_path, student)
    experiment, changes = study.experiment()
    assert tried in changes and left not in changes and why in study.not_tried[left]
    assert not {*changes} & {*study.not_tried}
    check_models(experiment)


@pytest.mark.parametrize(
    ("student", "grid", "message"),
    [
        ("kind: din", "methods: {a: {}, b: {distill.teachers: [a]}}", "grid.yaml: b: learns from the student a"),
        ("kind: din", "methods: {a: {}, b: {domain: {genre: 3}}}", "grid.yaml: students of several domains"),
        ("distill: {teachers: [big]}}, big: {width: 32", None, "students.light: learns from the student big"),
    ],
)
def test_students_that_cannot_be_compared_are_refused(
    tmp_path: Path, student: str, grid: str | None, message: str
) -> None:
    with pytest.raises(UserError) as caught:
        study_of(tmp_path, student, grid).experiment()
    assert message in str(caught.value)


@pytest.mark.parametrize("student", ["alternate: {to: {width: 8}}", "pretrain: {}", "distill: {warm_start: {}}"])
def test_who_begins_from_something_or_changes_its_width_has_checkpoints_enough(tmp_path: Path, student: str) -> None:
    kind = "kind: transformer, options: {heads: 2}" if "pretrain" in student else "kind: din"
    study = study_of(tmp_path, f"{kind}, {student}", "methods: {a: {batch: 32}}")
    assert study.of_round(["a"], 1000, 500)[0].checkpoint_rows == 100


@pytest.mark.parametrize("kind", ["a.b:C", "_:din", f"{'long.' * 20}b:C"])
def test_a_kind_of_the_users_own_gives_names_that_may_be_a_models(kind: str) -> None:
    student = StudentConfig(kind=kind, history=50)
    names = [*candidate_grid("light", student, {}).methods]
    assert len(names) == 5 * 3 + 3 and own_name(student) in names
    assert [check_name(name) for name in names] == names


def test_which_of_the_students_teachers_are_stale(tmp_path: Path) -> None:
    config = tmp_path / "mine.yaml"
    config.write_text(
        "name: mine\ndata: {reader: simulator}\nteacher: {stale: {steps: 2}}\n"
        "teachers: {old: {stale: {hours: 1}}, new: {}}\nstudents: {light: {}}",
        encoding="utf-8",
    )
    for named, stale in (("teacher", ["teacher"]), ("new,old", ["old"]), ("new", [])):
        study = Study(config, None, Budget(), 5, None, [f"students.light.distill.teachers=[{named}]"])
        assert study.stale_teachers() == stale

"""Choosing a student: fewer go on each round, the budget is met or the nearest is named, it resumes, its file runs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from signal import SIGKILL
from typing import Any

import pytest

from recdistill.app.choose import choose
from recdistill.app.run import open_run, run_stages
from recdistill.config.candidates import RECIPE
from recdistill.config.grid import Grid
from recdistill.config.load import load_file
from recdistill.errors import UserError
from recdistill.evaluate.choice import Choice
from recdistill.report.choice import render
from recdistill.runs.folder import RunFolder
from recdistill.testing.killpoints import VARIABLE
from tests.support.forked import forked_call
from tests.support.here import trains_here

TINY = """
name: tiny
data: {reader: simulator, options: {rows: 1200, users: 30, items: 40, days: 0.5}}
teacher: {kind: pooled-mlp, width: 4, history: 5, batch: 50, stale: {steps: 1}}
students: {light: {kind: pooled-mlp, width: 4, history: 5, batch: 50, distill: {weight: 1.0}}}
evaluate: {seeds: [0, 1, 2], bootstrap: 20}
checkpoint_rows: 400
"""
METHODS: dict[str, dict[str, Any]] = {
    RECIPE: {"prune": {"from": {"width": 8}, "importance": "magnitude"}},
    "pooled-mlp-4": {"width": 4},
    "narrow": {"width": 2},
}

pytestmark = pytest.mark.long


@contextmanager
def few_tried() -> Iterator[None]:
    """Let three students be tried in place of sixteen, in two rounds, of which the second has two: each is exported."""
    with trains_here() as patch:
        patch.setattr(
            "recdistill.app.choose_study.candidate_grid", lambda name, *_: Grid(student=name, methods=METHODS)
        )
        patch.setattr("recdistill.app.choose.SHARES", (1 / 3, 1.0))
        patch.setattr("recdistill.evaluate.choice.MIN_KEPT", 2)
        yield


@pytest.fixture(scope="module", autouse=True)
def few() -> Iterator[None]:
    with few_tried():
        yield


def study(root: Path) -> None:
    """Choose under a budget that all meet."""
    with few_tried():
        choose(root / "tiny.yaml", out=root / "out", memory_mib=10, candidates=5)


@pytest.fixture(scope="module")
def place(few: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the experiment, and in out/ a study that was killed in its second round and resumed."""
    root = tmp_path_factory.mktemp("choice")
    (root / "tiny.yaml").write_text(TINY, encoding="utf-8")
    in_the_second_round = "checkpoint.published:190"  # of 130 in each
    assert forked_call(study, root, **{VARIABLE: in_the_second_round}) == -SIGKILL
    assert (root / "out" / "round-1" / "costs.json").exists() and (root / "out" / "round-2" / "models").exists()
    assert not (root / "out" / "round-2" / "summary.json").exists()
    study(root)
    return root


def read(place: Path) -> Choice:
    return Choice.model_validate(json.loads((place / "out" / "choice.json").read_text(encoding="utf-8")))


def seeds_of(place: Path, number: int) -> int:
    """Return the seeds that a round trained; of so few rows a seed may diverge, and is then in no mean."""
    about = json.loads((place / "out" / f"round-{number}" / "run.json").read_text(encoding="utf-8"))
    return len(about["experiment"]["evaluate"]["seeds"])


def test_fewer_students_go_on_to_more_rows(place: Path) -> None:
    found = read(place)
    assert {one.name for one in found.tried} == {*METHODS}
    last = [one for one in found.tried if one.rows == 1200]
    assert len(last) == 2 and not any(one.left_out for one in last)
    dropped = [one for one in found.tried if one.rows < 1200]
    assert [(one.rows, one.left_out) for one in dropped] == [(400, "round 1: others were better")]
    assert [seeds_of(place, number) for number in (1, 2)] == [2, 3]
    assert found.recommended in {one.name for one in last} and any(one.front for one in last)
    assert all(0 < one.cost.memory_mib < 10 and one.cost.latency_ms > 0 for one in found.tried)


def test_its_file_runs_the_recommended_student(place: Path) -> None:
    path = place / "out" / "chosen.yaml"
    experiment, found = load_file(path), read(place)
    student = experiment.students["light"].model_dump(exclude_unset=True)
    assert student | METHODS[found.recommended] == student and student["distill"] == {"weight": 1.0}
    assert experiment.evaluate.seeds == [0, 1, 2] and found.reasons[0] in path.read_text(encoding="utf-8")


def test_it_trains_and_measures_nothing_twice(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = read(place)
    choose(place / "tiny.yaml", out=place / "out", memory_mib=10, candidates=5)
    out = capsys.readouterr().out
    assert out.count("training: nothing to do") == 2 and read(place) == before
    assert before.stale == ["teacher"] and "recipe's first step, was not done: teacher predicts with old weights" in out


def test_a_round_that_was_killed_ends_as_one_that_was_not(place: Path, tmp_path: Path) -> None:
    experiment, found = RunFolder(place / "out" / "round-2").experiment(), read(place)
    with open_run(experiment, None, tmp_path / "run") as run:
        summary = run_stages(run, experiment, None)
    for one in (one for one in found.tried if one.rows == 1200):
        student = summary.students[one.name]
        assert (one.raw, one.distilled) == (student.raw.metric(found.metric), student.distilled.metric(found.metric))


def test_another_budget_lets_others_go_on_and_the_first_one_comes_back(place: Path) -> None:
    before, rounds = read(place), json.loads((place / "out" / "round-1" / "costs.json").read_text(encoding="utf-8"))
    with suppress(UserError):  # of more rows it may exceed what it met
        least = min(cost["memory_mib"] for cost in rounds["costs"].values())
        choose(place / "tiny.yaml", out=place / "out", memory_mib=least, candidates=5)
    assert (place / "out" / "round-2-2" / "costs.json").exists()
    study(place)
    assert read(place) == before


def test_a_student_that_comes_from_one_which_a_round_may_leave_out_is_refused(tmp_path: Path) -> None:
    experiment = tmp_path / "tiny.yaml"
    experiment.write_text(TINY, encoding="utf-8")
    grid = tmp_path / "grid.yaml"
    grid.write_text("methods: {wide: {width: 8}, small: {pruned_from: {student: wide}}}", encoding="utf-8")
    with pytest.raises(UserError, match=r"students\.small\.pruned_from: a round may leave 'wide' out"):
        choose(experiment, grid, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_budget_that_nobody_meets_names_the_nearest(place: Path) -> None:
    with pytest.raises(UserError, match=r"the memory budget is below all of them; the nearest, (narrow|recipe), takes"):
        choose(place / "tiny.yaml", out=place / "out", memory_mib=0.001, candidates=5)


def test_the_page_escapes_and_names_the_budget(place: Path) -> None:
    found = read(place)
    html = render(found.model_copy(update={"recommended": "<b>", "name": "<i>"}))
    assert "<b>" not in html.replace("<b>&lt;b&gt;</b>", "") and "&lt;i&gt;" in html and "Budget: 10 MiB." in html


def test_each_step_of_the_recipe_is_measured(place: Path) -> None:
    found = read(place)
    names = ["labels alone", "distilled", "pruned, and distilled again", "rows as int8"]
    assert [step.name for step in found.recipe] == names and all(step.quality is not None for step in found.recipe)
    cost = next(one.cost for one in found.tried if one.name == RECIPE)
    assert cost.whole is not None and cost.whole.memory_mib > cost.memory_mib
    assert found.recipe[3].cost.memory_mib < found.recipe[2].cost.memory_mib
    html = render(found)
    assert "What each step of the recipe brought" in html and "was not done: teacher predicts with old weights" in html

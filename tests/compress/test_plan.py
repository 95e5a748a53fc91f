"""Which widths when: cubic for pruning, cycles that end full; what does not fit is refused before training."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from pydantic import ValidationError

from recdistill.app.run import open_run
from recdistill.compress.plan import check_plan, config_at
from recdistill.config.models import StudentConfig
from recdistill.errors import UserError
from tests.support.runs import ingested, tiny, trainer

BASE = {"kind": "pooled-mlp", "width": 4, "options": {"hidden": [16, 8]}}


def student(**keys: Any) -> StudentConfig:
    return StudentConfig.model_validate({**BASE, **keys})


def widths(config: StudentConfig, blocks: int, count: int | None = None) -> list[tuple[int, int]]:
    found = [config_at(config, block, blocks) for block in range(count or blocks)]
    return [(one.width, one.options["hidden"][0]) for one in found]


def test_pruned_by_a_cubic_schedule() -> None:
    config = student(prune={"from": {"width": 12, "hidden": [80, 8]}, "start": 0.2, "end": 0.6})
    left = [1, 1, 1, 0.75**3, 0.5**3, 0.25**3, 0, 0, 0, 0]
    assert widths(config, 10) == [(4 + round(8 * share), 16 + round(64 * share)) for share in left]


@given(st.integers(2, 40), st.floats(0, 0.9), st.floats(0.05, 0.95))
def test_widths_only_fall_and_end_at_the_students_own(blocks: int, start: float, end: float) -> None:
    assume(start < end)
    config = student(prune={"from": {"width": 40, "hidden": [64, 32]}, "start": start, "end": end})
    try:
        check_plan("light", config, blocks)
    except UserError:
        assert int(end * blocks) <= int(start * blocks)
        return
    found = widths(config, blocks)
    assert found == sorted(found, reverse=True) and found[-1] == (4, 16) and found[0] == (40, 64)


def test_depth_is_pruned_like_a_width() -> None:
    config = student(kind="hstu", prune={"from": {"layers": 5}, "start": 0.0, "end": 0.5})
    assert [config_at(config, block, 8).options.get("layers", 2) for block in range(8)] == [5, 3, 2, 2, 2, 2, 2, 2]


def test_cycles_end_full_and_begin_anew_in_a_stream() -> None:
    config = student(alternate={"to": {"width": 2}, "every": 3, "shrunken": 2})
    assert [width for width, _ in widths(config, 8, 14)] == [2, 2, 4, 2, 2, 4, 4, 4, 2, 2, 4, 2, 2, 4]


def test_heads_divide_the_width_on_the_way() -> None:
    options = {"heads": 2, "hidden": [16, 8]}
    config = student(kind="target-attention", options=options, prune={"from": {"width": 64, "heads": 8}, "end": 0.9})
    for block in range(20):
        found = config_at(config, block, 20)
        assert found.width % found.options["heads"] == 0


@pytest.mark.parametrize(
    ("keys", "why"),
    [
        ({"prune": {"from": {"width": 8}, "start": 0.5, "end": 0.55}}, "leave no step of 8 checkpoints"),
        ({"alternate": {"to": {"width": 2}, "every": 8, "shrunken": 1}}, "a cycle of 8 checkpoints and a full end"),
    ],
)
def test_a_schedule_that_does_not_fit_is_refused(keys: dict[str, Any], why: str) -> None:
    with pytest.raises(UserError, match=why):
        check_plan("light", student(**keys), 8)


@pytest.mark.parametrize("plan", [{"prune": {"from": {"width": 0}}}, {"alternate": {"to": {"hidden": [0, 4]}}}])
def test_a_width_of_0_is_refused(plan: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="greater than or equal to 1"):
        student(**plan)


@pytest.mark.parametrize(
    ("assignment", "why"),
    [
        ("prune={from: {wide: 8}}", r"light\.prune: prune\.from\.wide: pooled-mlp has no such option"),
        ("prune={from: {hidden: 80}}", r"give a number, or as many numbers"),
        ("prune={from: {width: 2}}", r"light\.prune: from\.width: 2 against the student's own 4; give more"),
        ("prune={from: {hidden: [80, 31]}}", r"light\.prune: from\.hidden: .*; give more"),
        ("prune={from: {width: 4}}", r"light\.prune: from: .* is the student's own size; give more"),
        ("kind=longer", r"light\.prune: .* none of its widths can; those that can: hidden\.0, hidden\.1"),
        ("kind=tests.support.networks:NoWidths", "says nothing of its widths"),
    ],
)
def test_what_cannot_change_is_refused_before_training(tmp_path: Any, assignment: str, why: str) -> None:
    experiment = tiny("students.light.prune={from: {width: 8}}", f"students.light.{assignment}")
    with pytest.raises(UserError, match=why), open_run(experiment, None, tmp_path / "run"):
        pass
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("to", "why"), [("{width: 8}", r"to\.width: 8 .* own 4; give less"), ("{hidden: [8]}", r"light\.alternate: ")]
)
def test_what_does_not_shrink_is_refused_before_training(tmp_path: Any, to: str, why: str) -> None:
    experiment = tiny(f"students.light.alternate={{to: {to}}}")
    with pytest.raises(UserError, match=why), open_run(experiment, None, tmp_path / "run"):
        pass


def test_a_schedule_that_ends_before_it_starts_is_refused() -> None:
    with pytest.raises(ValidationError, match="start 0.5 is not before end 0.1"):
        student(prune={"from": {"width": 8}, "start": 0.5, "end": 0.1})


def test_layers_are_not_measured_by_what_is_read_of_them(tmp_path: Any) -> None:
    plan = "students.light.prune={from: {layers: 4}, importance: activation}"
    why = r"light\.prune: importance activation knows nothing of layers; choose taylor or magnitude"
    with pytest.raises(UserError, match=why), open_run(tiny("students.light.kind=hstu", plan), None, tmp_path / "run"):
        pass


def test_a_users_network_is_pruned(tmp_path: Any) -> None:
    kind = "students.light.kind=tests.support.networks:WithWidths"
    experiment = tiny(
        "checkpoint_rows=50", kind, "students.light.prune={from: {width: 8, hidden: 12}, start: 0.3, end: 0.8}"
    )
    ingested(tmp_path, experiment)
    found = trainer(tmp_path, experiment, "light.raw.s0")
    shapes = []
    for _ in found.run_to_end():
        shapes.append(tuple(found.learner.network.backbone.layer.weight.shape))  # type: ignore[union-attr,operator]
    assert (
        shapes[0] == (12, 8)
        and shapes[-1] == (6, 4)
        and sorted(set(shapes), reverse=True) == list(dict.fromkeys(shapes))
    )


def test_the_trained_student_has_its_own_size(tmp_path: Any) -> None:
    experiment = tiny("checkpoint_rows=50", "students.light.alternate={to: {hidden: [8, 4]}, every: 2, shrunken: 1}")
    ingested(tmp_path, experiment)
    found = trainer(tmp_path, experiment, "light.raw.s0")
    first = found.learner.network.backbone.body[0].out_features  # type: ignore[index,union-attr]
    for _ in found.run_to_end():
        pass
    assert (first, found.learner.network.backbone.body[0].out_features) == (8, 64)  # type: ignore[index,union-attr]

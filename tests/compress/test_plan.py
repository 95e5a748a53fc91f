"""Which widths when: cubic for pruning, cycles that end full; what does not fit is refused before training."""

from __future__ import annotations

from itertools import groupby, pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from pydantic import ValidationError

from recdistill.app.run import open_run, train_stage
from recdistill.compress.plan import check_plan, config_at
from recdistill.config.models import StudentConfig
from recdistill.errors import UserError
from recdistill.runs.folder import RunFolder
from recdistill.train.build import check_models
from recdistill.train.memory_check import unallocated
from tests.support.runs import ingested, tiny, trainer

BASE = {"kind": "pooled-mlp", "width": 4, "options": {"hidden": [16, 8]}}


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a run that has read its 400 rows, and trained nothing."""
    root = tmp_path_factory.mktemp("log") / "run"
    ingested(root, tiny())
    return root


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


def test_a_share_that_ends_with_a_checkpoint_is_that_checkpoint() -> None:
    config = student(prune={"from": {"width": 12}, "start": 0.29, "end": 0.58})
    found = [width for width, _ in widths(config, 100)]
    assert found[29] == 12 > found[30]  # not one checkpoint before


def test_pruned_over_the_versions_of_a_stream() -> None:
    config = student(prune={"from": {"width": 12, "hidden": [80, 8]}, "versions": [1, 5]})
    left = [1, 1, 1, 1, 1, 0.75**3, 0.5**3, 0.25**3, 0, 0]  # a log of 3 blocks, then versions
    assert widths(config, 3, 10) == [(4 + round(8 * share), 16 + round(64 * share)) for share in left]


@pytest.mark.parametrize(
    ("keys", "why"),
    [
        ({"versions": [3, 3]}, "versions: 3 is not before 3"),
        ({"versions": [0, 3], "end": 0.9}, "start and end are of a log, versions of a stream"),
        ({"versions": [0, 3, 5]}, "at most 2 items"),
        ({"versions": [-1, 3]}, "greater than or equal to 0"),
        ({"versions": [0, 100001]}, "less than or equal to 100000"),
    ],
)
def test_versions_that_are_no_schedule_are_refused(keys: dict[str, Any], why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        student(prune={"from": {"width": 8}, **keys})


def test_versions_do_not_go_with_a_rate_that_falls() -> None:
    with pytest.raises(ValidationError, match="rate_end falls in the batch phase, before prune.versions"):
        student(prune={"from": {"width": 8}, "versions": [0, 3]}, rate_end=0.5)


def test_depth_is_pruned_like_a_width() -> None:
    config = student(kind="hstu", prune={"from": {"layers": 5}, "start": 0.0, "end": 0.5})
    assert [config_at(config, block, 8).options.get("layers", 2) for block in range(8)] == [5, 3, 2, 2, 2, 2, 2, 2]


def test_cycles_end_full_and_begin_anew_in_a_stream() -> None:
    config = student(alternate={"to": {"width": 2}, "every": 3, "shrunken": 2})
    assert [width for width, _ in widths(config, 8, 14)] == [2, 2, 4, 2, 2, 4, 4, 4, 2, 2, 4, 2, 2, 4]


@pytest.mark.parametrize("kind", ["target-attention", "hstu", "transformer"])
@pytest.mark.parametrize("larger", [{"heads": 8}, {"heads": 8, "width": 32}, {"width": 24}])
def test_every_size_on_the_way_can_be_built(kind: str, larger: dict[str, int]) -> None:
    config = student(kind=kind, width=16, options={"heads": 2}, prune={"from": larger, "start": 0.0, "end": 0.9})
    found = [config_at(config, block, 20) for block in range(20)]
    for one, _ in groupby(found):
        unallocated("light", one)
    sizes = [(one.width, one.options["heads"]) for one in found]
    assert sizes[0] == (larger.get("width", 16), larger.get("heads", 2)) and sizes[-1] == (16, 2)
    assert len(set(sizes)) > 2


@given(st.integers(1, 6), st.integers(1, 6), st.integers(0, 11), st.integers(0, 30), st.integers(2, 40))
def test_heads_divide_the_width_on_the_way_and_both_only_fall(
    heads: int, columns: int, more: int, wider: int, blocks: int
) -> None:
    """The student's own width is heads x 2 columns; the enlarged one has up to 11 heads more, and is no narrower."""
    own, many = heads * 2 * columns, heads + more
    width = -(-(own + wider) // (2 * many)) * 2 * many
    larger = {"width": width, "heads": many}
    options = {"heads": heads}
    config = student(kind="transformer", width=own, options=options, prune={"from": larger, "start": 0.0, "end": 0.99})
    found = [config_at(config, block, blocks) for block in range(blocks)]
    sizes = [(one.width, one.options["heads"]) for one in found]
    assert all(one % (2 * parts) == 0 for one, parts in sizes)
    assert all(later[0] <= one[0] and later[1] <= one[1] for one, later in pairwise(sizes))
    assert sizes[0] == (width, many) and sizes[-1] == (own, heads)


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


@pytest.mark.parametrize(
    "plan",
    [
        {"prune": {"from": {"width": 0}}},
        {"alternate": {"to": {"hidden": [0, 4]}}},
        {"width": 0, "prune": {"from": {"width": 4}}},
    ],
)
def test_a_width_of_0_is_refused(plan: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="greater than or equal to 1"):
        student(**plan)


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        (["options={hidden: [0, 8]}", "prune={from: {hidden: [8, 8]}}"], r"options\.hidden\[0\]: it should be .* 1"),
        (
            ["kind=tests.support.networks:WithWidths", "options={hidden: 0}", "prune={from: {hidden: 8}}"],
            "WithWidths: its output width is 0; it must be at least 1",
        ),
    ],
)
def test_an_option_of_0_as_the_size_to_end_at_is_refused(tmp_path: Path, settings: list[str], why: str) -> None:
    experiment = tiny(*(f"students.light.{one}" for one in settings))
    with pytest.raises(UserError, match=why), open_run(experiment, None, tmp_path / "run"):
        pass


@pytest.mark.parametrize(
    ("assignment", "why"),
    [
        ("prune={from: {wide: 8}}", r"light\.prune: wide: pooled-mlp has no such option"),
        ("prune={from: {hidden: 80}}", r"give a number, or as many numbers"),
        ("prune={from: {width: 2}}", r"light\.prune: from\.width: 2 against the student's own 4; give more"),
        ("prune={from: {hidden: [80, 31]}}", r"light\.prune: from\.hidden: .*; give more"),
        ("prune={from: {width: 4}}", r"light\.prune: from: .* is the student's own size; give more"),
        ("kind=longer", r"light\.prune: .* none of its widths can; those that can: hidden\.0, hidden\.1"),
        ("kind=tests.support.networks:NoWidths", "says nothing of its widths, .* widths .docs 'Prune and grow a stud"),
    ],
)
def test_what_cannot_change_is_refused_before_training(tmp_path: Any, assignment: str, why: str) -> None:
    experiment = tiny("students.light.prune={from: {width: 8}}", f"students.light.{assignment}")
    with pytest.raises(UserError, match=why), open_run(experiment, None, tmp_path / "run"):
        pass
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("to", "why"),
    [
        ("{width: 8}", r"light\.alternate: to\.width: 8 .* own 4; give less"),
        ("{hidden: [8]}", r"light\.alternate: to\.hidden: \[8\] against .*; give a number, or as many numbers"),
        ("{key_width: 2}", r"light\.alternate: to\.key_width: 2 against the student's own None; give a number"),
        ("{wide: 2}", r"light\.alternate: wide: hstu has no such option"),
    ],
)
def test_what_does_not_shrink_is_refused_before_training(tmp_path: Any, to: str, why: str) -> None:
    experiment = tiny("students.light.kind=hstu", f"students.light.alternate={{to: {to}}}")
    with pytest.raises(UserError, match=why), open_run(experiment, None, tmp_path / "run"):
        pass


@pytest.mark.parametrize(
    ("assignments", "why"),
    [
        (["prune={from: {width: 8}, start: 0.5, end: 0.55}"], r"students\.light\.prune: .* leave no step of 8 "),
        (["prune={from: {width: 8}, versions: [0, 2]}"], r"students\.light\.prune\.versions: are of a stream; give st"),
        (["alternate={to: {width: 2}, every: 8}"], r"students\.light\.alternate: a cycle of 8 checkpoints and a full"),
        (
            ["distill.warm_start={at: 0.1}"],
            r"students\.light: warm_start\.at 0\.1 of 400 samples ends before the first",
        ),
        (
            ["distill.warm_start={at: 0.5, frozen: 0.05}"],
            r"students\.light: warm_start\.frozen 0\.05 of 400 samples ends before the next .*, or leave frozen out",
        ),
        (
            ["kind=hstu", "options={}", "pretrain={at: 0.1}"],
            r"students\.light: pretrain\.at 0\.1 of 400 samples ends before the first checkpoint; lower",
        ),
        (
            ["kind=tests.support.networks:InSixes", "prune={from: {hidden: 12}, start: 0.0, end: 0.9}"],
            r"students\.light: on its way .*: hidden is \d+; give a multiple of 6",
        ),
    ],
)
def test_what_a_log_does_not_hold_is_refused_before_the_teacher_is_trained(
    log: Path, assignments: list[str], why: str
) -> None:
    experiment = tiny("checkpoint_rows=50", *(f"students.light.{one}" for one in assignments))
    with pytest.raises(UserError, match=why):
        train_stage(RunFolder(log), experiment)
    assert not (log / "models").exists()


def test_what_a_stream_does_not_hold_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    plan = ("kind=tests.support.networks:InSixes", "prune={from: {hidden: 12}, versions: [0, 3]}")
    experiment, why = tiny(*(f"students.light.{one}" for one in plan)), r"light: on its way .*: hidden is \d+; give a"
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


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        (("kind=longer", "prune={from: {heads: 4}}"), r"from\.heads: 4 changes no width of kind longer; leave it out"),
        (("kind=longer", "prune={from: {heads: 4, hidden: [80, 40]}}"), r"from\.heads: 4 changes no width"),
        (("options={band: 4}", "alternate={to: {band: 2, heads: 1}}"), r"alternate: to\.band: 2 changes no width of"),
        (("options={band: 2, columns: 1}", "prune={from: {columns: 2}}"), r"from\.columns: 2 changes no width"),
        (
            ("options={key_width: 4}", "prune={from: {key_width: 8}, importance: activation}"),
            "importance activation knows nothing of key_width; choose taylor or magnitude",
        ),
    ],
)
def test_what_changes_no_width_or_is_not_measured_is_refused(settings: tuple[str, ...], why: str) -> None:
    found = tiny(
        "students.light.kind=hstu", "students.light.options={}", *(f"students.light.{one}" for one in settings)
    )
    with pytest.raises(UserError, match=why):
        check_models(found, trains=False)


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

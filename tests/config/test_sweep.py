"""Sizes as a file: its axes, its defaults, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recdistill.config.load import put
from recdistill.config.models import TeacherConfig
from recdistill.config.sweep import default_axes, load_sweep
from recdistill.errors import UserError

CONFIG = """
name: small
data: {reader: simulator, options: {rows: 3000}}
teacher: {kind: target-attention, width: 8, history: 20, batch: 256, options: {heads: 2, hidden: [16]}}
students: {light: {width: 4, history: 5}}
evaluate: {seeds: [0, 1]}
"""


def load(folder: Path, sweep: str | None, *axes: str):  # type: ignore[no-untyped-def]
    (folder / "c.yaml").write_text(CONFIG)
    if sweep is not None:
        (folder / "s.yaml").write_text(sweep)
    return load_sweep(folder / "c.yaml", folder / "s.yaml" if sweep is not None else None, list(axes), None)


def test_halves_of_the_teacher_without_a_file(tmp_path: Path) -> None:
    experiment, sizes = load(tmp_path, None)
    assert [sized.x for sized in sizes.values() if sized.axis == "history"] == [2, 5, 10, 20]
    assert [sized.x for sized in sizes.values() if sized.axis == "width"] == [4, 8]  # whole pairs per head
    assert [sized.x for sized in sizes.values() if sized.axis == "data"] == [0.125, 0.25, 0.5, 1.0]
    assert all(not student.distill.uses_teacher for student in experiment.students.values())
    assert experiment.students["history-5"].options == {"heads": 2, "hidden": [16]} and experiment.name == "small-scale"


@pytest.mark.parametrize("preset", ["1m", "ultra-2m"])
def test_every_preset_has_halves_that_can_be_built(preset: str) -> None:
    from recdistill.config.load import load_text
    from recdistill.train.build import check_models

    teacher = TeacherConfig.model_validate({"preset": preset})
    for axis, keys in default_axes(teacher).items():
        for values in zip(*keys.values(), strict=True):
            sets = [f"teacher.{key}={value}" for key, value in zip(keys, values, strict=True)]
            check_models(load_text(f"{{name: x, data: {{}}, teacher: {{preset: {preset}}}}}", sets))
        assert axis


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(["target-attention", "hstu", "transformer", "longer", "token-mixer", "din"]),
    st.integers(1, 40),
    st.integers(1, 40),
    st.sampled_from(
        [
            {},
            {"heads": 3},
            {"heads": 5},
            {"hidden": [3]},
            {"hidden": [9, 2]},
            {"tokens": 6, "mixer_width": 36},
            {"tokens": 4, "mixer_heads": 6, "mixer_width": 24},
            {"heads": "4"},
            {"hidden": ["a", 8]},
            {"hidden": 5},
        ]
    ),
)
def test_halves_can_be_built_where_the_whole_can(
    kind: str, width: int, history: int, options: dict[str, object]
) -> None:
    """Each once, none above the whole, the whole among them; what is wrong with the whole is not hidden by
    changing it.
    """
    teacher = TeacherConfig.model_validate({"kind": kind, "width": width, "history": history, "options": options})
    for keys in default_axes(teacher).values():
        ((key, values),) = keys.items()
        assert len(values) > 1 and all(value not in values[:place] for place, value in enumerate(values))
        if key in ("width", "history"):
            assert values[-1] == getattr(teacher, key)
        if key.startswith("options."):
            assert key[8:] not in options or options[key[8:]] in values
        if buildable(teacher):
            assert all(buildable(teacher, key, value) for value in values)


def buildable(teacher: TeacherConfig, key: str = "width", value: object = None) -> bool:
    from recdistill.train.memory_check import backbone_of

    tree = teacher.model_dump(mode="json")
    put(tree, key, tree[key] if value is None else value, "test")
    try:
        with torch.device("meta"):
            backbone_of(TeacherConfig.model_validate(tree), 0, 1, 1, 1)
    except UserError:
        return False
    return True


def test_further_keys_go_along(tmp_path: Path) -> None:
    experiment, sizes = load(
        tmp_path, "axes: {width: {width: [4, 8], options.heads: [1, 4]}, kind: {kind: [din, hstu]}}"
    )
    assert list(sizes) == ["width-4", "width-8", "kind-din", "kind-hstu"]
    assert experiment.students["width-8"].options["heads"] == 4
    assert experiment.students["kind-din"].options == {} and sizes["kind-din"].x is None


def test_a_preset_brings_its_own_keys(tmp_path: Path) -> None:
    experiment, _ = load(tmp_path, "axes: {size: {preset: [1m, 10m]}}")
    assert [student.history for student in experiment.students.values()] == [200, 1000]


def test_one_axis_of_a_student(tmp_path: Path) -> None:
    experiment, _ = load(tmp_path, "model: light\naxes: {history: {history: [2, 3]}, width: {width: [4]}}", "history")
    assert list(experiment.students) == ["history-2", "history-3"] and experiment.students["history-2"].width == 4


@pytest.mark.parametrize(
    ("sweep", "axes", "message"),
    [
        ("axes: {width: {width: [4, 8], history: [3]}}", [], "axes.width: its keys have 1 and 2 values"),
        ("axes: {width: {widht: [4]}}", [], "unknown key .*widht"),
        ("model: lihgt", [], "there is no 'lihgt'; did you mean 'light'"),
        ("axis: {}", [], "unknown key 'axis'; did you mean 'axes'"),
        ("{}", ["histroy"], "--axis histroy: .*did you mean 'history'"),
        ("axes: {width: {width: []}}", [], "axes"),
        ("axes: {w: {distill.weight: [1, 2]}}", [], "sizes learn from labels alone"),
        ("axes: {w: {sampling: [{negative: a}]}}", [], "sampling.negative"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, sweep: str, axes: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        load(tmp_path, sweep, *axes)

"""`recdistill plan` and presets: sizes as data, and what does not fit is said before anything starts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from recdistill.app import capacity
from recdistill.app.capacity import GIB, Machine, needs_of, plan, teacher_of
from recdistill.app.run import train_stage
from recdistill.config.load import load_text
from recdistill.config.models import TeacherConfig
from recdistill.config.presets import presets
from recdistill.errors import UserError
from recdistill.train import build, memory_check
from tests.support.runs import ingested, tiny

MACHINE = Machine(gpus=1, memory=80 * GIB, peak=1e15, share=0.4, network=5e10)


def write(folder: Path, teacher: str) -> Path:
    path = folder / "plan.yaml"
    path.write_text(f"name: plan\ndata: {{reader: simulator}}\nteacher: {teacher}\n")
    return path


def test_keys_beside_a_preset_win() -> None:
    config = TeacherConfig.model_validate({"preset": "1m", "history": 7, "options": {"tokens": 6}})
    assert (config.kind, config.history, config.options["tokens"], config.options["mixer_width"]) == (
        "token-mixer",
        7,
        6,
        48,
    )


def test_options_of_another_kind_are_not_mixed_in() -> None:
    config = TeacherConfig.model_validate({"preset": "1m", "kind": "hstu", "options": {"layers": 1}})
    assert config.options == {"layers": 1}


def test_an_unknown_preset_is_refused_with_those_that_are() -> None:
    with pytest.raises(UserError, match="no preset '24n'; did you mean '24b'.*known are 1m"):
        load_text("{name: x, data: {}, teacher: {preset: 24n}}")


def test_weights_are_shared_by_ranks_and_the_slower_of_computing_and_moving_decides() -> None:
    config = TeacherConfig.model_validate({"preset": "1b"})
    one, many = (needs_of(config, replace(MACHINE, gpus=gpus), 1e9, 1e7) for gpus in (1, 16))
    assert many.weights == pytest.approx(one.weights / 16) and one.moving == 0 and one.gathered == 0
    assert one.rows == pytest.approx(config.batch / one.computing)
    assert many.rows == pytest.approx(config.batch / max(many.computing, many.moving))
    assert many.batch == config.batch / 16 and many.computing == pytest.approx(
        one.computing / 16
    )  # a step's rows are shared out
    assert needs_of(config, replace(MACHINE, gpus=3), 1e9, 1e7).batch == 86  # of 256: somebody takes the odd one
    assert one.days == pytest.approx(1e9 / one.rows / 86_400)


@pytest.mark.parametrize(
    ("rows", "share"),
    [
        ("most: 1000", 1e-4),
        ("most: 1000, share: remainder", 1e-4),
        ("most: 1000, narrow: 4", 0.3),
        ("most: 1000000000", 1),
    ],
)
def test_rows_that_are_bounded_need_as_much_memory_as_there_can_be(rows: str, share: float) -> None:
    """Of 10 million ids; its tables are 16, 16 and 8 wide."""
    text = "{{name: x, data: {{reader: simulator}}, teacher: {{kind: din, width: 16{}}}}}"
    plain, bounded = (
        needs_of(load_text(text.format(keys)).teacher, MACHINE, 1e9, 1e7).tables for keys in ("", f", rows: {{{rows}}}")
    )
    assert bounded / plain == pytest.approx(share, rel=1e-2)


def test_what_does_not_fit_is_said_with_the_nearest_that_does(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of four presets; to count those of 20,000 events takes a minute."""
    some = {name: presets()[name] for name in ("1m", "1b", "7b", "24b")}
    monkeypatch.setattr(capacity, "presets", lambda: some)
    with pytest.raises(UserError, match="the largest preset that fits is 1b"):
        plan(teacher_of(write(tmp_path, "{preset: 24b}"), None, None), MACHINE, 1e9, 1e7)
    assert "dense parameters" in capsys.readouterr().out


def test_a_preset_needs_no_experiment(tmp_path: Path) -> None:
    assert teacher_of(None, "7b", ["teacher.batch=3"]).batch == 3
    for config, preset in ((None, None), (write(tmp_path, "{}"), "7b")):
        with pytest.raises(UserError, match="an experiment file or --preset NAME"):
            teacher_of(config, preset, None)
    with pytest.raises(UserError, match="did you mean '24b'"):
        teacher_of(None, "24n", None)


def test_a_light_teacher_is_counted_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan(teacher_of(write(tmp_path, "{kind: target-attention}"), None, None), MACHINE, 1e9, 1e7)
    assert "FLOPs per row" in capsys.readouterr().out


def test_a_run_refuses_a_teacher_that_this_machine_cannot_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory_check, "available_memory", lambda: 4 * GIB)
    build.check_models(load_text("{name: x, data: {}, teacher: {preset: 100m}}"))
    build.check_models(load_text("{name: x, data: {}, teacher: {preset: 1b}}"), trains=False)  # other machines may
    with pytest.raises(
        UserError, match="teacher: its .* need .* GiB to learn, 4.0 are free here; the largest preset that fits is 100m"
    ):
        build.check_models(load_text("{name: x, data: {}, teacher: {preset: 1b}}"))


def test_actions_are_checked_against_the_log_once_it_is_there(tmp_path: Path) -> None:
    """Before that nobody knows how many there are; then no model trains if one names an action that the log
    does not have.
    """
    options = "{transducers: [[0], [5]]}"
    plan(teacher_of(write(tmp_path, f"{{kind: hstu, options: {options}}}"), None, None), MACHINE, 1e9, 1e7)
    with pytest.raises(UserError, match="action 255 is not in the log, which has actions 0 to 254"):
        teacher = teacher_of(write(tmp_path, "{kind: hstu, options: {transducers: [[255]]}}"), None, None)
        plan(teacher, MACHINE, 1e9, 1e7)
    experiment = tiny("students.light.kind=hstu", f"students.light.options={options}")
    folder = ingested(tmp_path / "run", experiment)
    with pytest.raises(UserError, match="action 5 is not in the log, which has actions 0 to 1"):
        train_stage(folder, experiment)
    assert not any((folder.root / "models").rglob("*.safetensors"))

"""summary.json: what is written is read back, nulls are explained, and a reader never sees half a file."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from pydantic import ValidationError

from recdistill.errors import UserError
from recdistill.evaluate import summary as module
from recdistill.evaluate.summary import Curve, ModelSummary, StudentSummary, Transfer, load, summarise, write_summary
from tests.support.summaries import START, sample_summary, withheld_summary


@pytest.mark.parametrize("make", [sample_summary, withheld_summary])
def test_what_is_written_is_read_back(tmp_path: Path, make: object) -> None:
    summary = make()  # type: ignore[operator]
    write_summary(summary, tmp_path / "new" / "summary.json")
    assert load(tmp_path / "new" / "summary.json") == summary


def test_the_file_is_standard_json_with_the_promised_keys(tmp_path: Path) -> None:
    write_summary(sample_summary(), tmp_path / "summary.json")

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    tree = json.loads((tmp_path / "summary.json").read_text(), parse_constant=refuse)
    assert tree["schema_version"] == 6
    assert set(tree["models"]) == {"teacher", "raw", "distilled"}
    promised = {"auc", "gauc", "logloss", "ne", "calibration", "ece", "dense_parameters", "sparse_parameters"}
    assert promised | {"rows_per_second", "seeds", "std"} <= set(tree["models"]["teacher"])
    keys = {
        "eta",
        "low",
        "high",
        "teacher_gain",
        "teacher_gain_low",
        "teacher_gain_high",
        "why",
        "loses_on",
        "intervals",
        "widest",
    }
    assert keys == set(tree["transferability"]["gauc"])
    assert tree["transferability"]["ne"]["eta"] is None and tree["transferability"]["ne"]["why"]
    assert list(tree["students"]) == ["din-16", "din-8"]
    assert tree["models"]["raw"] == tree["students"]["din-16"]["raw"]
    assert tree["models"]["distilled"]["settings"]["weight"] == 1.0
    assert list(tree["further_tasks"]["finish"]["students"]) == ["din-16", "din-8"]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_numbers_that_are_not_numbers_become_null(value: float) -> None:
    model = ModelSummary(auc=value, std={"auc": value})
    assert model.auc is None and model.std["auc"] is None


def test_a_withheld_eta_must_have_a_reason() -> None:
    with pytest.raises(ValidationError, match="why"):
        Transfer(eta=float("nan"))
    with pytest.raises(ValidationError, match="above high"):
        Transfer(eta=0.5, low=0.7, high=0.2)


def test_series_of_other_lengths_than_their_time_are_refused() -> None:
    with pytest.raises(ValidationError, match="2 values for 1"):
        Curve(time=[START], metrics={"auc": [0.1, 0.2]})


def test_the_first_student_is_the_one_shown() -> None:
    summary = sample_summary()
    swapped = dict(reversed(summary.students.items()))
    with pytest.raises(ValidationError, match="din-8"):
        module.Summary(**{**summary.model_dump(), "students": swapped})
    assert summary.coverage == summary.students["din-16"].coverage
    with pytest.raises(ValueError, match="at least one"):
        summarise(teacher=summary.models.teacher, students=dict[str, StudentSummary]())


def test_further_tasks_are_tasks_after_the_first() -> None:
    summary = sample_summary()
    with pytest.raises(ValidationError, match="holds 'click'"):
        module.Summary(**{**summary.model_dump(), "further_tasks": {"click": summary.further_tasks["finish"]}})


def test_metric_refuses_other_names() -> None:
    assert sample_summary().models.teacher.metric("gauc") == 0.7820
    with pytest.raises(KeyError):
        sample_summary().models.teacher.metric("seeds")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not JSON"),
        ("[]", "schema_version is None"),
        ('{"schema_version": 9}', "schema_version is 9"),
        ('{"schema_version": 6}', "'name'"),
    ],
)
def test_load_names_what_is_wrong_in_one_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "summary.json"
    path.write_text(text)
    with pytest.raises(UserError, match=message) as caught:
        load(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_load_of_a_missing_file_is_the_users_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read"):
        load(tmp_path / "none.json")


def test_a_failed_write_leaves_the_old_file_and_no_rubbish(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "summary.json"
    write_summary(withheld_summary(), path)
    before = path.read_bytes()

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match="No space left"):
        write_summary(sample_summary(), path)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["summary.json"]

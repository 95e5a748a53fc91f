"""A preset's keys stand under a model's own, options by option; another kind takes none of them."""

from __future__ import annotations

import pytest

from recdistill.config.models import TeacherConfig
from recdistill.config.presets import expanded, presets

NAME, KEYS = next(iter(presets().items()))


def test_own_keys_win_and_options_are_merged() -> None:
    option = next(iter(KEYS["options"]))
    found = expanded({"preset": NAME, "width": 8, "options": {option: "mine"}})
    assert found["width"] == 8 and found["kind"] == KEYS["kind"] and "preset" not in found
    assert found["options"] == {**KEYS["options"], option: "mine"}
    assert presets()[NAME]["options"][option] != "mine"


def test_another_kind_has_options_of_its_own() -> None:
    assert expanded({"preset": NAME, "kind": "din"})["options"] == {}


@pytest.mark.parametrize("name", presets())
def test_every_preset_is_a_teacher(name: str) -> None:
    assert TeacherConfig.model_validate({"preset": name}).width == presets()[name]["width"]


def test_an_unknown_preset_is_named() -> None:
    with pytest.raises(ValueError, match=f"there is no preset '{NAME}x'"):
        expanded({"preset": f"{NAME}x"})
    assert expanded({"width": 3}) == {"width": 3}

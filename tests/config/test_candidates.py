"""Which students are tried where no grid names them."""

from __future__ import annotations

from typing import Any

import pytest

from recdistill.config.candidates import RECIPE, candidate_grid, own_name
from recdistill.config.models import StudentConfig


def test_light_kinds_in_three_widths_and_a_short_history() -> None:
    student = StudentConfig(kind="din", width=16, history=50, options={"unit": [8]})
    methods = candidate_grid("light", student).methods
    assert len(methods) == 1 + 4 * 3 + 3 and methods[own_name(student)] == {"width": 16}
    assert next(iter(methods)) == RECIPE and methods[RECIPE]["prune"]["from"] == {"width": 32}
    assert methods["pooled-mlp-8"] == {"kind": "pooled-mlp", "width": 8, "options": {}}
    assert methods["din-32-short"] == {"width": 32, "history": 10}


def test_widths_that_heads_divide_and_no_short_history_below_a_short_one() -> None:
    student = StudentConfig(kind="hstu", width=12, history=8, options={"heads": 4})
    methods = candidate_grid("light", student).methods
    assert {name for name in methods if name.startswith("hstu")} == {"hstu-8", "hstu-12", "hstu-24"}
    assert not any(name.endswith("short") for name in methods)


@pytest.mark.parametrize(
    "keys",
    [
        {"kind": "token-mixer"},
        {"rows": {"most": 8}},
        {"start_from": "runs/january"},
        {"prune": {"from": {"width": 32}}},
        {"alternate": {"to": {"width": 8}}},
        {"distill": {"warm_start": {"parts": ["network"]}}},
    ],
)
def test_there_is_no_recipe_for_a_student_that_cannot_be_pruned(keys: dict[str, Any]) -> None:
    assert RECIPE not in candidate_grid("light", StudentConfig.model_validate(keys)).methods

"""What is scored of a run: models paired by seed, each with its own costs and offset."""

from __future__ import annotations

import math

import pytest

from recdistill.app.model_facts import model_facts
from recdistill.evaluate.model_facts import IMPORTED, TrainingCosts
from tests.support.runs import tiny

COSTS = {f"light.{kind}.s{seed}": TrainingCosts(seed, 2, 3.0, 0.5) for kind in ("raw", "distilled") for seed in (3, 4)}


def test_models_are_paired_by_seed_with_their_own_costs() -> None:
    experiment = tiny("evaluate.seeds=[3,4]", "students.light.sampling.negative=0.1")
    (teacher,), students = model_facts(experiment, COSTS | {"teacher": TrainingCosts(9, 9, 9.0, 1.0)})
    pairs = list(zip(students["light"].raw, students["light"].distilled, strict=True))
    assert [(raw.name, distilled.name) for raw, distilled in pairs] == [
        (f"light.raw.s{seed}", f"light.distilled.s{seed}") for seed in (3, 4)
    ]
    assert all(model.costs == COSTS[model.name] for pair in pairs for model in pair)
    assert teacher.log_odds_offset == 0.0
    assert pairs[0][0].log_odds_offset == pytest.approx(math.log(10))


def test_an_imported_teacher_has_no_costs_and_names_its_file() -> None:
    (teacher,), _ = model_facts(tiny("evaluate.seeds=[3,4]"), COSTS, "scores.parquet")
    assert teacher.costs == IMPORTED
    assert teacher.settings == {"imported": "scores.parquet"}

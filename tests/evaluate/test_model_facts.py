"""What the summary says of a model beside its metrics."""

import math

import pytest

from recdistill.config.data import SamplingConfig
from recdistill.config.models import DistillConfig, ModelConfig, StudentConfig
from recdistill.evaluate.model_facts import log_odds_offset_of, settings_of


def test_settings_name_what_was_compared():
    student = StudentConfig(width=8, distill=DistillConfig(weight=2.0, towers="single"))
    settings = settings_of(student, student.distill)
    assert (settings["kind"], settings["width"], settings["history"], settings["weight"], settings["towers"]) == (
        "din",
        8,
        30,
        2.0,
        "single",
    )
    assert "weight" not in settings_of(student, student.distill.model_copy(update={"weight": 0.0}))
    teacher = ModelConfig(sampling=SamplingConfig(negative=0.1))
    assert settings_of(teacher, None)["sampling"] == "k+ 1, k- 0.1" and log_odds_offset_of(teacher) == pytest.approx(
        math.log(10)
    )

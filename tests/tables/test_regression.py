"""Values as models learn them, and back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recdistill.tables.regression import Regression
from recdistill.tables.schema import EventSchema


@given(st.lists(st.floats(0, 1e6), min_size=1), st.sampled_from([0.5, 1.0, 60.0]))
def test_what_is_learned_gives_the_value_back(values: list[float], scale: float) -> None:
    for loss in ("log", "huber"):
        rule = Regression(loss, scale)  # type: ignore[arg-type]
        np.testing.assert_allclose(rule.values(rule.learned(np.array(values))), values, rtol=1e-4, atol=1e-4 * scale)


def test_the_bend_of_the_loss_is_at_the_scale() -> None:
    assert Regression("huber", 30.0).learned(np.array([30.0, -60.0])).tolist() == [1.0, -2.0]
    assert Regression("log").learned(np.array([np.e - 1]))[0] == pytest.approx(1)
    assert np.isnan(Regression("log").learned(np.array([np.nan]))[0])


def test_a_prediction_beyond_all_values_stays_finite() -> None:
    assert np.isfinite(Regression("log").values(np.array([1e4], np.float32))).all()


def test_a_schema_keeps_its_rules() -> None:
    schema = EventSchema(tasks=("watch", "click"), regression={"watch": ("huber", 30.0)})
    again = EventSchema.from_json(schema.to_json())
    assert again == schema and again.rule("watch") == Regression("huber", 30.0) and again.rule("click") is None
    assert 0 < schema.positive_from < 1e-30 and EventSchema(tasks=("click",)).positive_from == 0.5

"""Laws of scaling: fitted as they were made, and described as they are."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recdistill.evaluate.scaling_laws import Scaling, fit, measured, scaling_of
from recdistill.evaluate.transferability import ScoredSamples, draw_all
from recdistill.report.scaling import render


@settings(max_examples=40, deadline=None)
@given(st.floats(0.1, 0.9), st.floats(0.01, 1.0), st.floats(0.1, 2.0), st.sampled_from([1.0, 7.0, 1e6]))
def test_a_law_is_found_again(floor: float, factor: float, exponent: float, first: float) -> None:
    x = first * np.array([1.0, 2, 4, 8, 16])
    loss = floor + factor * (x / first) ** -exponent
    found = [part[0] for part in fit(x, loss[None])]
    fitted = found[0] + found[1] * (x / first) ** -found[2]
    assert np.abs(fitted - loss).max() < 0.01 * factor
    assert found[2] == pytest.approx(exponent, rel=0.05)


def test_what_gets_worse_has_no_factor_and_no_negative_floor() -> None:
    x = np.array([1.0, 2, 4])
    floor, factor, _ = fit(x, np.array([[0.1, 0.2, 0.3], [3.0, 1.5, 0.75]]))
    assert factor[0] == 0.0 and floor[0] == pytest.approx(0.2)
    assert floor[1] == pytest.approx(0.0, abs=0.02) and factor[1] == pytest.approx(3.0, rel=0.02)


def facts(axis: str, xs: list[float | None]) -> dict[str, dict[str, object]]:
    return {
        f"{axis}-{at}": {
            "axis": axis,
            "x": x,
            "changes": {"width": x},
            "dense_parameters": 10,
            "flops": 5,
            "rows_per_second": None,
        }
        for at, x in enumerate(xs)
    }


def scaled(quality: list[float], keys: dict[str, dict[str, object]]) -> Scaling:
    """Sizes whose logits are the truth, blurred by 1 / quality."""
    draw = np.random.default_rng(0)
    user = np.sort(draw.integers(0, 50, 4_000))
    truth = draw.normal(size=4_000)
    samples = ScoredSamples((draw.random(4_000) < 1 / (1 + np.exp(-truth))).astype(float), user, user)
    noise = draw.normal(size=(2, 4_000))
    logits = [[(truth + n / q).astype(np.float32) for n in noise] for q in quality]
    values = measured(samples, logits, draw_all(50, 1, 2, 100))
    return scaling_of("<b>", 4_000, [0, 1], 0.95, keys, values)


def test_sizes_that_get_better_have_a_monotone_law() -> None:
    found = scaled([0.5, 1.0, 2.0, 4.0], facts("width", [8.0, 16.0, 32.0, 64.0]))
    assert [law.monotone for law in found.laws] == [True]
    assert found.sizes[0].gain is None and all(
        size.gain and size.gain.low and size.gain.low > 0 for size in found.sizes[1:]
    )
    gauc = [size.gauc.value for size in found.sizes]
    assert gauc == sorted(gauc)  # type: ignore[type-var]
    page = render(found)
    assert "every size is better" in page and "<b>" not in page.partition("<h1>")[2].partition("</h1>")[0]


def test_sizes_are_compared_in_order_of_their_numbers() -> None:
    assert scaled([0.5, 1.0, 4.0], facts("width", [32.0, 16.0, 8.0])).laws == []
    assert scaled([4.0, 1.0, 0.5], facts("width", [32.0, 16.0, 8.0])).laws[0].monotone


def test_a_step_that_is_worse_within_its_noise_breaks_the_monotone_law_alone() -> None:
    found = scaled([0.5, 4.0, 3.99], facts("width", [8.0, 16.0, 32.0]))
    assert found.no_law == {} and not found.laws[0].monotone


@pytest.mark.parametrize(
    ("quality", "why"),
    [([4.0, 2.0, 1.0], "NE does not fall with size"), ([0.5, 4.0, 1.0], "NE rises from 16 to 32, beyond its interval")],
)
def test_what_falls_with_size_has_no_law_and_the_reason(quality: list[float], why: str) -> None:
    found = scaled(quality, facts("width", [8.0, 16.0, 32.0]))
    assert found.laws == [] and found.no_law["width"].startswith(why)
    page = render(found)
    assert f"No law: {why}" in page and "by the law" not in page and "NE over width" in page


@pytest.mark.parametrize("xs", [[None, None, None], [8.0, 16.0], [8.0, 8.0, 16.0], [0.0, 1.0, 2.0], [-1.0, 1.0, 2.0]])
def test_kinds_and_two_numbers_have_no_law(xs: list[float | None]) -> None:
    found = scaled([1.0, 2.0, 3.0][: len(xs)], facts("kind", xs))
    assert found.laws == [] and len(found.sizes) == len(xs)
    assert "<h1>" in render(found)

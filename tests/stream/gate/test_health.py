"""The health of a teacher's windows: no alarm over clean drift, every poison found within one version of 20 windows."""

from __future__ import annotations

import json
import math
from collections import deque
from collections.abc import Callable, Iterable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recdistill.config.stream import HealthConfig
from recdistill.stream.gate.health import FIELDS, HealthWindow, fault_of, measure
from recdistill.typing import Array

ROWS, DAY, BOUNDS = 1000, 40, HealthConfig()  # DAY: windows


def log(windows: int, seed: int, rate: float = -3.0, skill: float = 1.2) -> Iterable[tuple[Array, Array]]:
    """Yield (logits, labels) of a healthy teacher, window by window: a daily cycle of the base rate of +- 30 %, which
    the teacher follows half; samples of a request and of a user's hour that go together; skill that grows from 60 %;
    logits that creep by 0.3."""
    draw = np.random.default_rng(seed)
    for k in range(windows):
        cycle = math.log(1 + 0.3 * math.sin(2 * math.pi * k / DAY))
        request = draw.normal(0, 0.5, ROWS // 4).repeat(4) + draw.normal(0, 0.2, ROWS // 50).repeat(50)
        taste = draw.normal(0, skill, ROWS)
        labels = draw.random(ROWS) < 1 / (1 + np.exp(-(rate + cycle + request + taste)))
        known = 0.6 + 0.4 * k / windows
        yield (
            rate + 0.1 + 0.5 * cycle + known * (request + taste) + 0.3 * k / windows + draw.normal(0, 0.2, ROWS),
            labels * 1.0,
        )


def alarms(windows: Iterable[tuple[Array, Array]], reference: deque[Array], keep: bool = True) -> list[str]:
    """Return why windows were found bad, alone or with all before of 20; healthy ones join the reference."""
    found, version = [], []
    for k, (logits, labels) in enumerate(windows):
        window = measure(logits, labels, ROWS, ROWS)
        version = [*version, window.sums][-(k % 20) - 1 :]
        together = HealthWindow(np.stack(version))
        past = np.stack(reference) if reference else np.zeros((0, len(FIELDS)))
        why = fault_of(window, past, BOUNDS) or (fault_of(together, past, BOUNDS) if len(version) >= 8 else None)
        if why:
            found.append(why)
        elif keep:
            reference.append(window.sums)
    return found


def past(seed: int = 9, rate: float = -3.0, skill: float = 1.2, windows: int = 50) -> deque[Array]:
    """Return the sums of healthy windows."""
    return deque((measure(*window).sums for window in log(windows, seed, rate, skill)), maxlen=50)


@pytest.mark.parametrize(("seed", "rate", "skill"), [(0, -3.0, 1.2), (1, -1.0, 0.8), (2, -4.5, 1.5), (3, -3.0, 2.5)])
def test_no_alarm_over_500_windows_of_clean_drift(seed: int, rate: float, skill: float) -> None:
    assert alarms(log(500, seed, rate, skill), deque(maxlen=50)) == []


POISONS: dict[str, Callable[[Array, Array], Array]] = {
    "labels flipped": lambda z, noise: -z,
    "shifted": lambda z, noise: z + 2,
    "scaled": lambda z, noise: z * 3,
    "constant": lambda z, noise: np.full_like(z, z.mean()),
    "nothing": lambda z, noise: np.zeros_like(z),
    "shuffled": lambda z, noise: z[np.argsort(noise)],
}


@pytest.mark.parametrize("labelled", [True, False])
@pytest.mark.parametrize(("rate", "skill"), [(-3.0, 1.2), (-1.0, 1.2), (-4.5, 1.5)])
@pytest.mark.parametrize("poison", POISONS)
def test_every_poison_is_found_within_one_version(poison: str, rate: float, skill: float, labelled: bool) -> None:
    if poison == "shuffled" and not labelled:
        pytest.skip("the logits alone look as they did")
    draw = np.random.default_rng(5)
    windows = [
        (POISONS[poison](z, draw.random(ROWS)), y if labelled else y * math.nan) for z, y in log(20, 4, rate, skill)
    ]
    assert alarms(windows, past(9, rate, skill), keep=False)


def only(poison: Callable[[Array, Array], Array], labelled: bool = True, observed: float = 1.0) -> str:
    """Return why a window is bad after `poison(logits, noise)` and with a share of its positives turned negative."""
    (z, y), *_ = log(1, 4, skill=1.5)
    draw = np.random.default_rng(0)
    y = y * (draw.random(ROWS) < observed) if labelled else y * math.nan
    window = measure(poison(z, draw.normal(0, 1, ROWS)), y)
    return fault_of(window, np.stack(past(skill=1.5)), BOUNDS) or ""


def test_each_check_finds_what_the_others_let_pass() -> None:
    assert "mean logit" in only(lambda z, noise: z + 4, labelled=False)
    assert "standard deviation of the logits" in only(lambda z, noise: z.mean() + 0.3 * (z - z.mean()))
    assert only(lambda z, noise: z + 1.2) == ""
    assert "positives where" in only(lambda z, noise: z + 1.2, observed=0.7)
    assert only(lambda z, noise: z.mean() + 0.3 * (z - z.mean()) + 1.2 * noise).startswith("NE 1.")
    assert only(lambda z, noise: z + 0.1 * noise) == ""


def test_a_teacher_that_leaves_out_half_of_the_samples_is_found() -> None:
    windows = list(log(20, 3))
    assert fault_of(measure(*windows[0], known=500, offered=1000), np.stack(past()), BOUNDS)
    assert fault_of(measure(*windows[0], known=990, offered=1000), np.stack(past()), BOUNDS) is None
    few = measure(windows[0][0][:40], windows[0][1][:40], known=40, offered=90)
    assert fault_of(few, np.stack(past()), BOUNDS) is None


def test_without_a_reference_only_what_is_worse_than_the_base_rate_is_bad() -> None:
    nothing = np.zeros((0, len(FIELDS)))
    (z, y), *_ = log(1, 7)
    assert fault_of(measure(z, y), nothing, BOUNDS) is None
    assert fault_of(measure(z * 0, y * math.nan), nothing, BOUNDS) is None
    why = fault_of(measure(-z, y), nothing, BOUNDS)
    assert why and "worse than the base rate alone" in why and "\n" not in why


def test_a_window_beyond_a_bound_but_not_beyond_doubt_is_healthy() -> None:
    draw = np.random.default_rng(0)
    wild = [measure(draw.normal(draw.normal(0, 3), 1, ROWS), np.full(ROWS, math.nan)) for _ in range(51)]
    reference = np.stack([window.sums for window in wild[1:]])
    far = measure(draw.normal(6, 1, ROWS), np.full(ROWS, math.nan))
    assert fault_of(far, reference, BOUNDS) is None  # the reference's windows differ as much
    calm = np.stack([measure(draw.normal(0, 1, ROWS), np.full(ROWS, math.nan)).sums for _ in range(50)])
    assert "mean logit" in (fault_of(far, calm, BOUNDS) or "")


def test_neighbours_that_go_together_are_no_independent_rows() -> None:
    """A window of few clusters holds less than its rows: by rows alone its mean would lie 20 standard errors away."""
    draw = np.random.default_rng(1)
    reference = measure(draw.normal(0, 1, 4000), np.full(4000, math.nan)).sums[None]
    clustered = draw.normal(0.9, 1.5, 10).repeat(100) + draw.normal(0, 0.1, ROWS)
    assert fault_of(measure(clustered, np.full(ROWS, math.nan)), reference, HealthConfig(shift=0.1, spread=5)) is None
    alone = draw.permutation(clustered)
    assert fault_of(measure(alone, np.full(ROWS, math.nan)), reference, HealthConfig(shift=0.1, spread=5))


@given(
    st.lists(st.tuples(st.floats(-30, 30), st.sampled_from([0.0, 1.0, math.nan])), min_size=1, max_size=300),
    st.integers(1, 299),
)
def test_windows_add_up_and_agree_with_brute_force(rows: list[tuple[float, float]], cut: int) -> None:
    z, y = (np.array(column) for column in zip(*rows, strict=True))
    whole = measure(z, y, 3, 4)
    parts = [measure(z[at], y[at]) for at in (slice(cut), slice(cut, None)) if len(z[at])]
    both = sum(parts[1:], parts[0])
    assert np.allclose(both.sums[:7], whole.sums[:7]) and list(whole.sums[7:]) == [3, 4]
    has = ~np.isnan(y)
    p = 1 / (1 + np.exp(-z[has]))
    expected = [len(z), z.sum(), (z * z).sum(), has.sum(), y[has].sum(), p.sum()]
    assert np.allclose(whole.sums[:6], expected)
    figures = whole.figures()
    assert json.loads(json.dumps(figures)) == figures and figures["coverage"] == 0.75
    assert figures["std"] == pytest.approx(z.std(), abs=1e-5)


def test_log_loss_and_ne_are_those_of_the_definition() -> None:
    z, y = next(iter(log(1, 3)))
    p = 1 / (1 + np.exp(-z))
    loss = -(y * np.log(p) + (1 - y) * np.log(1 - p)).mean()
    rate = y.mean()
    figures = measure(z, y).figures()
    assert figures["logloss"] == pytest.approx(loss)
    assert figures["ne"] == pytest.approx(loss / -(rate * np.log(rate) + (1 - rate) * np.log(1 - rate)))

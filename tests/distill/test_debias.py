"""Debias against the formulas in probabilities, and against logs that were really sampled."""

import math

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from recdistill.distill.debias import KeepRates, PaperCorrection, as_sampled, paper_log_odds, true_log_odds
from recdistill.errors import UserError

RATE = st.floats(0.01, 1)
LOGIT = st.floats(-15, 15)


def z64(value):
    return torch.tensor([value], dtype=torch.float64)


@given(RATE, RATE, st.floats(0.001, 0.999))
def test_keep_rates_take_back_what_sampling_does_to_a_probability(positive, negative, p):
    sampled = p * positive / (p * positive + (1 - p) * negative)
    logit = z64(math.log(sampled / (1 - sampled)))
    found = torch.sigmoid(true_log_odds(logit, KeepRates(positive, negative)))
    assert float(found) == pytest.approx(p, rel=1e-9)


def test_recovers_the_rate_of_a_log_that_was_really_sampled():
    draw = torch.Generator().manual_seed(0)
    label = torch.rand(400_000, generator=draw) < 0.1
    rates = KeepRates(0.8, 0.05)
    keep = torch.rand(len(label), generator=draw) < torch.where(label, rates.positive, rates.negative)
    seen = label[keep].double().mean()
    assert seen > 0.5
    found = torch.sigmoid(true_log_odds(torch.logit(seen), rates))
    assert float(found) == pytest.approx(float(label.double().mean()), rel=0.03)


@given(RATE, RATE, RATE, st.floats(0.001, 0.999))
def test_a_logit_of_one_sampling_is_brought_to_another(one, other, both, p):
    """Both models know the truth."""
    before, after = KeepRates(both, one), KeepRates(1.0, other)
    odds = p / (1 - p)
    logit = z64(math.log(odds * before.positive / before.negative))
    found = float(as_sampled(logit, before, after))
    assert found == pytest.approx(math.log(odds * after.positive / after.negative), abs=1e-9)


@pytest.mark.parametrize("rates", [(0.0, 1.0), (1.0, 0.0), (1.1, 1.0), (1.0, -0.1), (math.nan, 1.0), (1.0, math.inf)])
def test_refuses_keep_rates_outside_their_range(rates):
    with pytest.raises(UserError, match="keep rates"):
        KeepRates(*rates)


def paper(z, c):
    """Return f(z) as the papers' readers write it."""
    ratio = c.negative_ratio / c.positive_retention
    if c.reading == "outside":
        return 1 / (1 + ratio * (math.exp(-z) + 1 - c.nominal_retention) + c.bias)
    return 1 / (1 + ratio * (math.exp(-z) + 1 - c.nominal_retention + c.bias))


@given(LOGIT, st.floats(0.1, 50), RATE, RATE, st.floats(0, 2), st.sampled_from(["outside", "inside"]))
def test_paper_correction_is_its_formula_in_both_readings(z, ratio, retention, nominal, bias, reading):
    c = PaperCorrection(ratio, retention, nominal, bias, reading)
    p = paper(z, c)
    assert 0 < p < 1
    assert float(torch.sigmoid(paper_log_odds(z64(z), c))) == pytest.approx(p, rel=1e-9)


@given(LOGIT, st.floats(0.1, 50), RATE, RATE, st.floats(0, 2))
def test_readings_convert_by_the_ratio(z, ratio, retention, nominal, bias):
    inside = PaperCorrection(ratio, retention, nominal, bias, "inside")
    outside = PaperCorrection(ratio, retention, nominal, inside.ratio * bias, "outside")
    assert float(paper_log_odds(z64(z), inside)) == pytest.approx(float(paper_log_odds(z64(z), outside)), abs=1e-9)


@given(LOGIT, RATE, RATE)
def test_without_bias_the_paper_and_the_keep_rates_are_one(z, positive, negative):
    c = PaperCorrection(negative_ratio=positive / negative)
    expected = true_log_odds(z64(z), KeepRates(positive, negative))
    assert float(paper_log_odds(z64(z), c)) == pytest.approx(float(expected), abs=1e-9)


@given(st.floats(0.1, 50), RATE, st.floats(0.01, 3), st.floats(-5, 0), st.sampled_from(["outside", "inside"]))
def test_refuses_exactly_the_parameters_that_leave_the_unit_interval(ratio, retention, nominal, bias, reading):
    scale = ratio / retention
    limit = scale * (1 - nominal) + (bias if reading == "outside" else bias * scale)  # odds against, z to infinity
    assume(abs(limit) > 1e-9)
    if limit > 0:
        PaperCorrection(ratio, retention, nominal, bias, reading)
    else:
        with pytest.raises(UserError, match=r"leave \(0, 1\)"):
            PaperCorrection(ratio, retention, nominal, bias, reading)


@pytest.mark.parametrize("ratio", [0.0, -1.0, math.nan, math.inf])
def test_refuses_ratios_that_are_not_positive_numbers(ratio):
    with pytest.raises(UserError):
        PaperCorrection(negative_ratio=ratio)
    with pytest.raises(UserError):
        PaperCorrection(positive_retention=ratio)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_refuses_parameters_that_are_not_numbers(value):
    with pytest.raises(UserError):
        PaperCorrection(nominal_retention=value)
    with pytest.raises(UserError):
        PaperCorrection(bias=value)


def test_stable_for_extreme_logits():
    z = torch.tensor([-1e4, -100.0, 0.0, 100.0, 1e4], requires_grad=True)
    found = paper_log_odds(z, PaperCorrection(2.0, 1.0, 0.9, 0.1))
    found.sum().backward()
    assert torch.isfinite(found).all() and torch.isfinite(z.grad).all()
    cap = -math.log(2.0 * 0.1 + 0.1)  # the log-odds cannot pass the cap that r_+ and b_s set
    assert found.detach()[-1] == pytest.approx(cap, abs=1e-5)

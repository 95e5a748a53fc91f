"""Losses against their definitions, written out with probabilities in float64; what is unknown counts nothing."""

import math
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from recdistill.distill.debias import KeepRates
from recdistill.distill.losses import (
    Supervision,
    bernoulli_kl,
    importance_weight,
    label_loss,
    objective,
    scaled_label,
    share_with_signal,
    signal_loss,
)

LOGIT = st.floats(-12, 12)
PAIRS = st.lists(st.tuples(LOGIT, LOGIT), min_size=1, max_size=8)
NAN = math.nan


def tensor(values, grad=False):
    return torch.tensor(values, dtype=torch.float64).reshape(-1, 1).requires_grad_(grad)


def s(x):
    return 1 / (1 + math.exp(-x))


def cross_entropy(p, q):
    return -p * math.log(q) - (1 - p) * math.log1p(-q)


def kl(p, q):
    return p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q))


def settings(loss="cross-entropy", temperature=1.0, space="posterior", towers="decoupled", label_scale=1.0, **paper):
    paper = SimpleNamespace(**{"bias": 0.0, "nominal_retention": 1.0, "reading": "outside"} | paper)
    return SimpleNamespace(
        loss=loss, temperature=temperature, space=space, towers=towers, label_scale=label_scale, paper=paper
    )


@given(PAIRS, st.sampled_from([0.5, 1.0, 4.0]))
def test_signal_losses_are_their_definitions(pairs, tau):
    t, z = (tensor([pair[i] for pair in pairs]) for i in (0, 1))
    n = len(pairs)
    expected = {
        "cross-entropy": sum(tau**2 * cross_entropy(s(a / tau), s(b / tau)) for a, b in pairs) / n,
        "kl": sum(tau**2 * kl(s(a / tau), s(b / tau)) for a, b in pairs) / n,
        "mse": sum((s(a) - s(b)) ** 2 for a, b in pairs) / n,
    }
    for kind, value in expected.items():
        assert float(signal_loss(kind, z, t, tau)) == pytest.approx(value, rel=1e-6, abs=1e-8)


@given(PAIRS, st.sampled_from([0.5, 1.0, 4.0]))
def test_cross_entropy_and_kl_pull_alike_with_tau_times_the_difference(pairs, tau):
    t = tensor([pair[0] for pair in pairs])
    for kind in ("cross-entropy", "kl"):
        z = tensor([pair[1] for pair in pairs], grad=True)
        signal_loss(kind, z, t, tau).backward()
        expected = tau * (torch.sigmoid(z / tau) - torch.sigmoid(t / tau)) / len(pairs)
        torch.testing.assert_close(z.grad, expected.detach(), atol=1e-9, rtol=1e-6)


def test_squared_error_dies_at_saturation_where_cross_entropy_pulls():
    pull = {}
    for kind in ("mse", "cross-entropy"):
        z = tensor([20.0], grad=True)
        signal_loss(kind, z, tensor([-20.0])).backward()
        pull[kind] = abs(float(z.grad))
    assert pull["mse"] < 1e-8 and pull["cross-entropy"] > 0.99


@given(st.lists(st.tuples(LOGIT, st.sampled_from([0.0, 1.0, NAN])), min_size=1, max_size=8))
def test_label_loss_is_the_mean_over_known_labels(rows):
    z, y = tensor([row[0] for row in rows], grad=True), tensor([row[1] for row in rows])
    loss = label_loss(z, y)
    known = [cross_entropy(label, s(logit)) for logit, label in rows if not math.isnan(label)]
    assert float(loss.detach()) == pytest.approx(sum(known) / max(len(known), 1), rel=1e-6, abs=1e-9)
    loss.backward()
    assert torch.equal(z.grad.isnan(), torch.zeros_like(z, dtype=torch.bool))
    assert (z.grad[y.isnan()] == 0).all()


@pytest.mark.parametrize("kind", ["cross-entropy", "kl", "mse"])
def test_missing_signals_count_nothing_and_pull_nothing(kind):
    z, t = tensor([0.3, -2.0, 5.0], grad=True), tensor([1.0, NAN, 2.0])
    signal_loss(kind, z, t).backward()
    assert z.grad[1] == 0 and (z.grad[[0, 2]] != 0).all()
    present = signal_loss(kind, z.detach()[[0, 2]], t[[0, 2]])
    assert float(signal_loss(kind, z.detach(), t)) == pytest.approx(
        2 / 3 * float(present)
    )  # a missing one makes no other count more
    assert float(signal_loss(kind, z.detach(), t, rows=2)) == pytest.approx(float(present))
    assert float(signal_loss(kind, z.detach(), torch.full_like(t, NAN))) == 0


@given(st.lists(st.tuples(st.floats(-1e4, 1e4, width=32), st.floats(-1e4, 1e4, width=32)), min_size=1, max_size=8))
def test_extreme_logits_stay_finite_and_kl_is_never_negative(pairs):
    t, z = (torch.tensor([[pair[i]] for pair in pairs], dtype=torch.float32) for i in (0, 1))
    z.requires_grad_()
    assert (bernoulli_kl(t, z) >= 0).all()
    total = sum(signal_loss(kind, z, t) for kind in ("cross-entropy", "kl", "mse")) + label_loss(z, (t > 0).float())
    total.backward()
    assert torch.isfinite(total) and torch.isfinite(z.grad).all()


def heads(seed=0, rows=6, tasks=2):
    """Return (backbone output, main head, aux head, labels, signals), some of them unknown."""
    draw = torch.Generator().manual_seed(seed)
    hidden = torch.randn(rows, 4, generator=draw, dtype=torch.float64).requires_grad_()
    main, aux = (torch.randn(4, tasks, generator=draw, dtype=torch.float64).requires_grad_() for _ in range(2))
    labels = torch.randint(0, 2, (rows, tasks), generator=draw).double()
    signals = torch.randn(rows, tasks, generator=draw, dtype=torch.float64)
    labels[0, 0] = signals[1, 0] = NAN
    signals[2] = NAN
    return hidden, main, aux, labels, signals


def test_decoupled_is_two_label_losses_and_the_weighted_signal_on_the_auxiliary():
    hidden, main, aux, labels, signals = heads()
    z, a = hidden @ main, hidden @ aux
    found = objective(z, a, Supervision(labels, signals), settings(), 3.0)
    expected = label_loss(z, labels) + label_loss(a, labels) + 3 * signal_loss("cross-entropy", a, signals)
    torch.testing.assert_close(found, expected)
    assert share_with_signal(signals) == pytest.approx(5 / 6)  # one row of six has no signal for any task


def test_single_puts_the_signal_on_the_one_tower():
    hidden, main, _, labels, signals = heads()
    z = hidden @ main
    found = objective(z, None, Supervision(labels, signals), settings("kl", 2.0), 0.5)
    torch.testing.assert_close(found, label_loss(z, labels) + 0.5 * signal_loss("kl", z, signals, 2.0))


@pytest.mark.parametrize("kind", ["cross-entropy", "kl", "mse"])
def test_the_main_tower_gets_exactly_zero_gradient_from_the_signal(kind):
    hidden, main, aux, labels, signals = heads()
    unknown = torch.full_like(labels, NAN)  # with no label known, all that is left is the signal
    found = objective(hidden @ main, hidden @ aux, Supervision(unknown, signals), settings(kind), 5.0)
    by_main, by_aux, by_hidden = torch.autograd.grad(found, (main, aux, hidden))
    assert torch.equal(by_main, torch.zeros_like(main))
    assert by_aux.abs().max() > 0 and by_hidden.abs().max() > 0

    def by_labels_and(signal, weight):
        loss = objective(hidden @ main, hidden @ aux, Supervision(labels, signal), settings(kind), weight)
        return torch.autograd.grad(loss, main)[0]

    alone = by_labels_and(signals, 0.0)
    assert torch.equal(by_labels_and(signals, 5.0), alone)
    assert torch.equal(by_labels_and(signals * 1e6, 5.0), alone)


def test_without_weight_settings_or_signals_the_labels_alone_count():
    hidden, main, aux, labels, signals = heads()
    z, a = hidden @ main, hidden @ aux
    alone = (label_loss(z, labels) + label_loss(a, labels)).detach()
    missing = torch.full_like(signals, NAN)
    for signal, config, weight in ((signals, None, 1.0), (signals, settings(), 0.0), (missing, settings(), 2.0)):
        found = objective(z, a, Supervision(labels, signal), config, weight)
        assert torch.equal(found.detach(), alone)
    assert share_with_signal(missing) == 0.0


def test_spaces_differ_only_when_sampling_does():
    hidden, main, _, labels, signals = heads()
    z = hidden @ main
    half, tenth = KeepRates(1.0, 0.5), KeepRates(1.0, 0.1)

    def total(space, own, teacher):
        return float(
            objective(z, None, Supervision(labels, signals, own, teacher), settings(space=space), 1.0).detach()
        )

    assert total("posterior", half, half) == pytest.approx(total("student", half, half))
    assert total("paper", half, tenth) == pytest.approx(total("student", half, tenth))
    assert total("posterior", half, tenth) != pytest.approx(total("student", half, tenth))


@given(st.floats(0.05, 1), st.floats(0.05, 1), st.floats(0, 2), st.floats(0.5, 1), st.booleans())
def test_the_papers_space_is_its_formula_on_both_sides(first, second, bias, nominal, inside):
    """Two tasks of different rates: cross-entropy between f_S of the teacher's raw logit and f_S of the student's."""
    own, reading = [KeepRates(1.0, first), KeepRates(0.7, second)], "inside" if inside else "outside"
    z, t = torch.tensor([[0.4, -1.0]], dtype=torch.float64), torch.tensor([[-0.3, 2.0]], dtype=torch.float64)

    def f(logit, k):
        ratio = own[k].positive / own[k].negative
        rest = 1 - nominal + (bias if inside else 0)
        return 1 / (1 + ratio * (math.exp(-logit) + rest) + (0 if inside else bias))

    expected = 0.0
    for k in range(2):
        p, q = f(float(t[0, k]), k), f(float(z[0, k]), k)
        expected -= (p * math.log(q) + (1 - p) * math.log(1 - q)) / 2
    chosen = settings(space="paper", bias=bias, nominal_retention=nominal, reading=reading)
    given_ = Supervision(torch.full_like(z, NAN), t, own, [KeepRates(1.0, 0.01)] * 2)
    assert float(objective(z, None, given_, chosen, 1.0)) == pytest.approx(expected, rel=1e-9)


@given(st.floats(0.05, 1), st.floats(0.05, 1), LOGIT)
def test_posterior_space_is_at_rest_when_both_know_their_own_truth(student_rate, teacher_rate, true):
    own, teacher = KeepRates(1.0, student_rate), KeepRates(1.0, teacher_rate)
    z = tensor([true + own.log_odds_offset], grad=True)
    signal, unknown = tensor([true + teacher.log_odds_offset]), tensor([NAN])
    found = objective(z, None, Supervision(unknown, signal, own, teacher), settings(), 1.0)
    (pull,) = torch.autograd.grad(found, z)
    assert abs(float(pull)) < 1e-12


def test_each_task_is_corrected_by_its_own_rates():
    _, _, _, labels, _ = heads()
    own, teacher = [KeepRates(1.0, 0.5), KeepRates(0.7, 1.0)], [KeepRates(1.0, 0.1), KeepRates(0.7, 1.0)]
    z = torch.tensor([0.3 + rates.log_odds_offset for rates in own], dtype=torch.float64).repeat(6, 1).requires_grad_()
    signals = torch.tensor([0.3 + rates.log_odds_offset for rates in teacher], dtype=torch.float64).repeat(6, 1)
    (pull,) = torch.autograd.grad(
        objective(z, None, Supervision(torch.full_like(labels, NAN), signals, own, teacher), settings(), 1.0), z
    )
    assert float(pull.abs().max()) < 1e-12
    swapped = objective(
        z, None, Supervision(torch.full_like(labels, NAN), signals, own[::-1], teacher), settings(), 1.0
    )
    assert float(torch.autograd.grad(swapped, z)[0].abs().max()) > 1e-3


@given(st.floats(-6, 6), st.floats(0, 1))
def test_weighted_late_labels_leave_a_model_that_knows_the_truth_at_rest(true, late):
    """Of samples that are positive with p, a share of them late: (1 - p) + late p come as negatives, p as positives."""
    p = s(true)
    pulls = []
    for label, share in ((0.0, 1 - p + late * p), (1.0, p)):
        z = tensor([true], grad=True)
        label_weight = importance_weight(z.detach(), tensor([label]), torch.tensor([late]))
        total = objective(
            z, None, Supervision(tensor([label]) * label_weight, tensor([NAN]), label_weight=label_weight), None, 0.0
        )
        pulls.append(share * float(torch.autograd.grad(total, z)[0]))
    assert abs(sum(pulls)) < 1e-6 and (p < 0.01 or pulls[1] < 0)


@given(LOGIT)
def test_a_negative_taken_back_and_the_positive_are_the_positive_alone(logit):
    z = tensor([logit])
    no, yes = tensor([0.0]), tensor([1.0])
    instead = objective(z, None, Supervision(yes, tensor([NAN]), label_weight=torch.zeros_like(z)), None, 0.0)
    assert float(label_loss(z, no) + instead) == pytest.approx(float(label_loss(z, yes)), abs=1e-9)


def test_signal_only_keeps_the_labels_from_the_auxiliary_tower():
    hidden, main, aux, labels, signals = heads()
    z, a = hidden @ main, hidden @ aux
    found = objective(z, a, Supervision(labels, signals), settings(towers="signal-only"), 3.0)
    torch.testing.assert_close(found, label_loss(z, labels) + 3 * signal_loss("cross-entropy", a, signals))


@given(st.lists(st.floats(-30, 30), min_size=1, max_size=8), st.floats(0.1, 20))
def test_label_scaling_is_exfms_equation_4(logits, scale):
    t = torch.tensor(logits, dtype=torch.float64)
    target = torch.sigmoid(scaled_label(t, scale))
    torch.testing.assert_close(target, (scale * torch.sigmoid(t)).clamp(max=1), atol=2e-6, rtol=1e-6)
    assert torch.isfinite(scaled_label(t.float(), scale)).all()


def test_a_weight_per_task_is_the_sum_of_the_tasks_shares():
    hidden, main, _, labels, signals = heads()
    z = hidden @ main
    both = objective(z, None, Supervision(labels, signals), settings(), torch.tensor([2.0, 0.5])) - label_loss(
        z, labels
    )
    alone = []
    for k in (0, 1):
        of_task = torch.full_like(signals, NAN)
        of_task[:, k] = signals[:, k]
        alone.append(signal_loss("cross-entropy", z, of_task))
    torch.testing.assert_close(both, 2.0 * alone[0] + 0.5 * alone[1])

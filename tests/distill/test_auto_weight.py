"""The automatic weight holds the signal's gradient at its fraction of the labels'."""

import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from recdistill.distill.auto_weight import LARGEST, MEMORY, AutoWeight
from recdistill.distill.losses import label_loss, signal_loss


def of_norm(norm):
    return torch.full((4, 4), norm / 4.0)


@given(st.floats(0.05, 4), st.floats(0.1, 10), st.floats(0.1, 10))
def test_weight_holds_the_signals_gradient_at_the_fraction(fraction, label, signal):
    auto = AutoWeight(fraction)
    auto.update(of_norm(label), of_norm(signal))
    assert auto.weight == pytest.approx(min(LARGEST, fraction * label / signal), rel=1e-5)


def test_weight_of_a_real_step():
    draw = torch.Generator().manual_seed(0)
    hidden = torch.randn(64, 8, generator=draw).requires_grad_()
    head = torch.randn(8, 1, generator=draw)
    labels, signals = torch.randint(0, 2, (64, 1), generator=draw).float(), torch.randn(64, 1, generator=draw)
    logit = hidden @ head
    (by_label,) = torch.autograd.grad(label_loss(logit, labels), hidden, retain_graph=True)
    (by_signal,) = torch.autograd.grad(signal_loss("cross-entropy", logit, signals), hidden)
    auto = AutoWeight(0.25)
    auto.update(by_label, by_signal)
    assert float((auto.weight * by_signal).norm() / by_label.norm()) == pytest.approx(0.25, rel=1e-5)


def test_weight_averages_norms_and_ignores_batches_without_signals():
    auto = AutoWeight(1.0)
    assert auto.weight == 1.0
    auto.update(of_norm(1.0), of_norm(0.0))
    assert auto.weight == 1.0
    auto.update(of_norm(2.0), of_norm(1.0))
    auto.update(of_norm(4.0), of_norm(1.0))
    assert auto.weight == pytest.approx(MEMORY * 2 + (1 - MEMORY) * 4, rel=1e-6)


def test_weight_is_bounded_when_the_teacher_agrees():
    auto = AutoWeight(1.0)
    auto.update(of_norm(1.0), of_norm(1e-9))
    assert auto.weight == LARGEST


def test_it_resumes_from_json_where_it_stopped():
    auto, again = AutoWeight(0.5), AutoWeight(0.5)
    auto.update(of_norm(3.0), of_norm(1.0))
    again.load_state_dict(json.loads(json.dumps(auto.state_dict())))
    for one in (auto, again):
        one.update(of_norm(1.0), of_norm(2.0))
    assert auto.weight == again.weight

"""The automatic weight and the start gate."""

import json
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from recdistill.distill.auto_weight import LARGEST, MEMORY, AutoWeight
from recdistill.distill.debias import KeepRates
from recdistill.distill.losses import label_loss, signal_loss
from recdistill.distill.start_gate import StartGate

SAME = KeepRates()


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


def stream(rows, quality, seed=0, batches=40):
    """Yield (labels, signals, own logits): the teacher knows `quality` of the truth, the student nothing."""
    draw = torch.Generator().manual_seed(seed)
    for _ in range(batches):
        true = torch.randn(rows, 2, generator=draw) * 2
        noise = torch.randn(rows, 2, generator=draw) * 2
        yield (
            (torch.rand(rows, 2, generator=draw) < torch.sigmoid(true)).float(),
            quality * true + (1 - quality) * noise,
            0 * true,
        )


def run(gate, batches, teacher=SAME, own=SAME):
    return [bool(gate.update(y, t + teacher.log_odds_offset, z + own.log_odds_offset).all()) for y, t, z in batches]


def test_gate_opens_once_for_a_better_teacher_and_never_for_a_worse_one():
    good = run(StartGate(0.002, 2000), stream(100, 1.0))
    assert not good[0] and good[-1]
    assert good == sorted(good)
    assert not any(run(StartGate(0.002, 2000), stream(100, 0.0)))


def test_gate_closes_again_when_the_teacher_goes_bad():
    gate = StartGate(0.002, 1000)
    assert run(gate, stream(100, 1.0))[-1]
    assert not run(gate, stream(100, 0.0, seed=1))[-1]


def test_gate_judges_each_batch_by_what_came_before_it():
    gate = StartGate(0.0, 10)
    y, t = torch.tensor([[1.0], [0.0]] * 50), torch.tensor([[5.0], [-5.0]] * 50)
    assert not gate.update(y, t, 0 * t).any()
    assert gate.update(y, -t, 0 * t).all()  # still open: this batch's own labels may not decide about it
    assert not gate.update(y, t, 0 * t).any()


def test_gate_takes_the_sampling_out_of_both_sides():
    rates = KeepRates(1.0, 0.05)
    plain = run(StartGate(0.002, 1000), stream(100, 1.0))
    assert run(StartGate(0.002, 1000, teacher=rates.log_odds_offset), stream(100, 1.0), teacher=rates) == plain
    assert run(StartGate(0.002, 1000, own=rates.log_odds_offset), stream(100, 1.0), own=rates) == plain
    assert not any(run(StartGate(0.002, 1000), stream(100, 1.0), teacher=KeepRates(1.0, 1e-6)))


def test_gate_counts_only_rows_with_both_label_and_signal():
    gate = StartGate(0.0, 10)
    nan = math.nan
    y, t = torch.tensor([[1.0], [nan], [0.0]]), torch.tensor([[1.0], [1.0], [nan]])
    gate.update(y, t, torch.zeros(3, 1))
    assert gate.sums[0, 0] == 1 and not gate.open.any()  # one class has no entropy
    gate.update(torch.full((3, 1), nan), t, torch.zeros(3, 1))
    assert gate.sums[0, 0] == 1


def test_gate_opens_slice_by_slice():
    gate = StartGate(0.002, 500, slices=3)
    for (y, good, z), (_, bad, _) in zip(stream(60, 1.0), stream(60, 0.0), strict=True):
        slices = torch.arange(len(y)) % 2
        may = gate.update(y, torch.where(slices[:, None] == 0, good, bad), z, slices)
    assert may[0::2].all() and not may[1::2].any()
    assert gate.open.tolist() == [True, False, False]  # nobody was ever in the third


def test_gate_waits_until_the_teacher_is_ahead_by_more_than_its_noise():
    def opened(sigmas: float) -> int:
        return run(StartGate(0.0, 100, sigmas=sigmas), stream(200, 1.0)).count(False)

    assert opened(0.0) < opened(8.0)
    assert not any(run(StartGate(0.0, 100, sigmas=1000.0), stream(100, 1.0)))


def test_both_resume_from_json_where_they_stopped():
    auto, gate = AutoWeight(0.5), StartGate(0.002, 1000)
    auto.update(of_norm(3.0), of_norm(1.0))
    first = list(stream(100, 1.0))
    run(gate, first[:17])
    again, regate = AutoWeight(0.5), StartGate(0.002, 1000)
    again.load_state_dict(json.loads(json.dumps(auto.state_dict())))
    regate.load_state_dict(json.loads(json.dumps(gate.state_dict())))
    for one in (auto, again):
        one.update(of_norm(1.0), of_norm(2.0))
    assert auto.weight == again.weight
    assert run(gate, first[17:]) == run(regate, first[17:])
    assert gate.state_dict() == regate.state_dict()

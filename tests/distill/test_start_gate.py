"""The start gate opens once the teacher is ahead, slice by slice, and closes when it no longer is."""

import json
import math

import torch

from recdistill.distill.debias import KeepRates
from recdistill.distill.start_gate import StartGate

SAME = KeepRates()


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


def test_gate_decides_about_each_batch_by_what_came_before_it():
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


def test_it_resumes_from_json_where_it_stopped():
    gate, again = StartGate(0.002, 1000), StartGate(0.002, 1000)
    first = list(stream(100, 1.0))
    run(gate, first[:17])
    again.load_state_dict(json.loads(json.dumps(gate.state_dict())))
    assert run(gate, first[17:]) == run(again, first[17:])
    assert gate.state_dict() == again.state_dict()

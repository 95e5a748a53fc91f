"""The student adapter: an identity until labels say otherwise, silent until it has seen enough, no gradient
into the teacher.
"""

import json

import torch

from recdistill.distill.adapter import MIN_ROWS, Adapter

NAN = float("nan")


def fresh(rows: int, bias: float, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Return (what an old teacher says, labels of today): the world has moved by `bias`."""
    draw = torch.Generator().manual_seed(seed)
    logits = torch.randn(rows, 1, generator=draw)
    return logits, torch.bernoulli(torch.sigmoid(logits + bias), generator=draw)


def test_it_is_silent_until_it_has_learned_and_where_the_teacher_is():
    adapter = Adapter(1, [4], 1e-2)
    signals, labels = fresh(MIN_ROWS // 2, 0.0)
    assert torch.isnan(adapter.learn(signals, labels)).all()
    signals[3] = NAN
    said = adapter.learn(signals, labels)  # 999 rows
    assert torch.isnan(said).all()
    said = adapter.learn(signals, labels)
    assert torch.isnan(said[3]) and torch.isfinite(said[:3]).all() and not said.requires_grad


def test_rows_without_a_label_teach_it_nothing():
    adapter = Adapter(1, [4], 1e-2)
    signals, labels = fresh(2000, 1.0)
    assert torch.isnan(adapter.learn(signals, torch.full_like(labels, NAN))).all() and adapter.rows == 0


def test_it_learns_what_has_changed_since():
    adapter = Adapter(1, [8], 1e-2)
    for step in range(300):
        said = adapter.learn(*fresh(200, 1.5, step))
    signals, _ = fresh(2000, 0.0, 999)
    torch.manual_seed(3)
    state = torch.get_rng_state()
    said = adapter.learn(signals, torch.full_like(signals, NAN))
    assert torch.equal(torch.get_rng_state(), state)
    assert abs(float((said - signals).mean()) - 1.5) < 0.15


def test_its_weights_draw_nothing_from_the_students_random_state():
    before = torch.get_rng_state()
    Adapter(2, [8], 1e-2)
    assert torch.equal(torch.get_rng_state(), before)


def test_it_resumes_where_it_stopped():
    one, other = Adapter(2, [4], 1e-2), Adapter(2, [4], 1e-2)
    signals, labels = (torch.cat(pair, 1) for pair in zip(fresh(1500, 1.0), fresh(1500, -1.0, 1), strict=True))
    one.learn(signals, labels)
    tensors, state = one.state()
    other.restore({name: value.clone() for name, value in tensors.items()}, json.loads(json.dumps(state)))
    assert torch.equal(one.learn(signals, labels), other.learn(signals, labels))

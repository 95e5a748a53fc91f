"""Experts equal the written-out ones; those that a ReLU chooses also in tests/fidelity/test_rankmixer.py."""

from __future__ import annotations

import pytest
import torch

from recdistill.models.layers.experts import FIRST_WEIGHT, ReLUExperts, SparseSwiGLU
from tests.support.attention_reference import randomised


@pytest.mark.parametrize("active", [1, 2, 3])
def test_sparse_experts(active: int) -> None:
    layer = randomised(SparseSwiGLU(2, 6, 16, 3, active))
    x = torch.randn(2, 5, 6).double()
    expected = layer.shared(x)
    for t in range(2):
        for b in range(5):
            scores = x[t, b] @ layer.router[t]
            best = scores.argsort(descending=True)[:active]
            for gate, number in zip(scores[best].softmax(0), best.tolist(), strict=True):
                expected[t, b] += gate * 3 / active * layer.experts[number](x)[t, b]
    torch.testing.assert_close(layer(x), expected)


def test_relu_experts_that_nobody_takes_are_not_computed() -> None:
    layer = ReLUExperts(2, 6, 12, 3, 1)
    x = torch.randn(2, 5, 6)
    layer.router.data[..., 1] = -layer.router.data[..., 0]  # one of the first two, never both
    layer.router.data[..., 2] = 0
    taken: list[int] = []
    for expert in layer.experts:
        expert.one_token = lambda rows, token, own=expert.one_token: (taken.append(len(rows)), own(rows, token))[1]  # type: ignore[operator, assignment]
    with torch.no_grad():
        layer(x)
    assert sum(taken) == 2 * 5 and taken[2::3] == [0, 0]


def test_parts_of_a_step_take_routers_and_are_regularised_as_the_whole() -> None:
    """Parts of odd sizes, so that the next one begins at the other router, and one that has no row of the step."""
    layer, x = ReLUExperts(2, 6, 12, 3, 1), torch.randn(2, 9, 6)
    found, penalties = [], []
    for first, last, of in ((0, 9, 0), (0, 3, 9), (3, 8, 9), (8, 9, 9), (9, 10, 9)):
        layer.get_buffer("weight").fill_(1.0)
        layer.first, layer.of = first, of
        found.append(layer(x[:, first:last] if first < 9 else x[:, :1]))
        penalties.append(layer.taken())
    torch.testing.assert_close(torch.cat(found[1:4], 1), found[0])
    whole, *parts = (float(one) for one in penalties if one is not None)
    assert sum(parts) == pytest.approx(whole) and min(parts[:3]) > 0 == parts[3]


def test_the_weight_of_the_regulariser_stays_within_its_bounds() -> None:
    layer = ReLUExperts(2, 6, 12, 3, 3)  # all may be taken
    layer(torch.randn(2, 5, 6))
    assert float(layer.get_buffer("weight")) == pytest.approx(FIRST_WEIGHT)
    assert layer.taken() is not None and layer.taken() is None
    layer.eval()
    layer(torch.randn(2, 5, 6))
    assert layer.taken() is None

"""The fast forms equal the written-out ones, in float64."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recdistill.models.attention import target_ops
from recdistill.models.attention.target_ops import first_unit_layer
from recdistill.models.backbones.din import ActivationUnit

SIZES = st.integers(1, 5)


@settings(max_examples=30, deadline=None)
@given(SIZES, SIZES, SIZES, SIZES, SIZES, st.integers(0, 99))
def test_first_unit_layer_is_the_naive_one(
    groups: int, size: int, length: int, width: int, units: int, seed: int
) -> None:
    torch.manual_seed(seed)
    query, events = torch.randn(groups, size, width).double(), torch.randn(groups, length, width).double()
    linear = torch.nn.Linear(4 * width, units).double()
    q, k = query[:, None].expand(-1, length, -1, -1), events[:, :, None].expand(-1, -1, size, -1)
    naive = linear(torch.cat([q, k, q - k, q * k], -1))
    torch.testing.assert_close(first_unit_layer(query, events, linear.weight, linear.bias), naive)


@pytest.mark.parametrize("activation", ["sigmoid", "prelu"])
def test_activation_unit_is_the_naive_one(activation: str) -> None:
    torch.manual_seed(0)
    unit = ActivationUnit(4, [6, 3], activation).double()  # type: ignore[arg-type]
    query, events = torch.randn(2, 3, 4).double(), torch.randn(2, 5, 4).double()
    mask = torch.rand(2, 5, 3) < 0.7
    q, k = query[:, None].expand(-1, 5, -1, -1), events[:, :, None].expand(-1, -1, 3, -1)
    x = torch.cat([q, k, q - k, q * k], -1)
    for linear in unit.layers:
        x = linear(x)
        x = x.sigmoid() if activation == "sigmoid" else x.clamp(min=0) + 0.25 * x.clamp(max=0)
    torch.testing.assert_close(unit(query, events, mask), unit.last(x)[..., 0] * mask)


@pytest.mark.parametrize("slab", [1, 1000])
def test_sigmoid_unit_learns_as_the_plain_one(slab: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(target_ops, "SLAB", slab)
    torch.manual_seed(0)
    unit = ActivationUnit(4, [6], "sigmoid").double()
    query, events = torch.randn(7, 3, 4).double().requires_grad_(), torch.randn(7, 5, 4).double().requires_grad_()
    mask, pull = torch.rand(7, 5, 3) < 0.7, torch.randn(7, 5, 3).double()
    found = []
    for training in (True, False):
        weights = unit.train(training)(query, events, mask)
        found.append([weights, *torch.autograd.grad(weights, [query, events, *unit.parameters()], pull)])
    for fast, plain in zip(*found, strict=True):
        torch.testing.assert_close(fast, plain)

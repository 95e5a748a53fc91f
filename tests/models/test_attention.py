"""The fast forms equal the written-out ones, in float64."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recdistill.data.batch import AGES
from recdistill.models import attention
from recdistill.models.attention import first_unit_layer, gap_buckets
from recdistill.models.hstu import Gaps, HSTULayer
from recdistill.models.layout import lay_out
from recdistill.models.students import ActivationUnit
from tests.models.samples import make_batch

SIZES = st.integers(1, 5)


@settings(max_examples=30, deadline=None)
@given(SIZES, SIZES, SIZES, SIZES, SIZES, st.integers(0, 99))
def test_first_unit_layer_is_the_naive_one(groups: int, size: int, length: int, width: int, units: int, seed: int
                                           ) -> None:  # fmt: skip
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
    monkeypatch.setattr(attention, "SLAB", slab)
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


def test_gap_buckets() -> None:
    gaps = gap_buckets(AGES)
    assert torch.equal(gaps[0], torch.arange(AGES))  # from now, the gap is the age
    assert torch.equal(gaps.diagonal(), torch.zeros(AGES, dtype=torch.int64))
    assert (gaps.diff(dim=1) >= 0).all() and gaps.max() == AGES - 1


def reference(layer: HSTULayer, x: torch.Tensor, ages: torch.Tensor, gaps: torch.Tensor) -> torch.Tensor:
    """One sequence [n, D] through the layer, pair by pair; ages [n], the target last with age 0."""
    n, width = x.shape
    d = width // layer.heads
    u, q, v, k = torch.nn.functional.silu(layer.project(layer.norm(x))).split(width, 1)
    mixed = torch.zeros_like(x)
    for h in range(layer.heads):
        part = slice(h * d, (h + 1) * d)
        for i in range(n):
            for j in range(i + 1):
                score = q[i, part] @ k[j, part] + layer.position[h, i - j] + layer.time[h, gaps[ages[i], ages[j]]]
                mixed[i, part] += torch.nn.functional.silu(score) * v[j, part] / layer.length
    return layer.out(layer.mixed_norm(mixed) * u) + x


@pytest.mark.parametrize("sizes", [(3, 1, 2), (1, 1, 1), (9, 1, 1)])
def test_hstu_is_the_dense_one_with_the_candidate_appended(sizes: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    layers = [HSTULayer(6, 2, 10).double() for _ in range(3)]
    for layer in layers:
        torch.nn.init.normal_(layer.position)
        torch.nn.init.normal_(layer.time)
    batch, gaps = make_batch(sizes, (4, 0, 9)), gap_buckets(AGES)
    rows = torch.randn(len(batch.history.unique), 6).double()
    rows[0] = 0
    candidates = torch.randn(len(batch), 6).double()
    layout = lay_out(batch.history)
    events, targets = layout.events(rows), layout.group(candidates)
    between = Gaps.of(layout, gaps, 10, torch.float64)
    events, targets = layers[0](events, targets, layout, between)
    events, targets = layers[1](events, targets, layout, between)
    targets = layers[2].last(events, targets, layout)
    fast = layout.ungroup(targets)
    for b, r in enumerate(batch.history.of.tolist()):
        span = slice(int(batch.history.offsets[r]), int(batch.history.offsets[r + 1]))
        x = torch.cat([rows[batch.history.index[span]], candidates[b : b + 1]])
        ages = torch.cat([batch.history.age[span], torch.zeros(1, dtype=torch.int64)])
        for layer in layers:
            x = reference(layer, x, ages, gaps)
        torch.testing.assert_close(fast[b], x[-1])

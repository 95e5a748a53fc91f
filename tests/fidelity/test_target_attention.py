"""DIN (1706.06978), equation 3 and figure 2, and target attention's own definition, event by event."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from recdistill.models.backbones.din import ActivationUnit
from recdistill.models.backbones.target_attention import TargetAttention
from recdistill.models.embeddings.growable import TableOptions
from recdistill.models.examples import ACTIONS, FIELDS, SLOTS, example_batch
from recdistill.typing import Array
from tests.fidelity.numbers import linear, number, randomised, sigmoid

D = 4


def weight_of(unit: Any, candidate: Array, event: Array, prelu: bool) -> float:
    """Figure 2: an MLP of event, candidate, their difference and their product."""
    x = np.concatenate([candidate, event, candidate - event, candidate * event])
    for number_, layer in enumerate(unit.layers):
        x = linear(layer, x)
        x = np.where(x > 0, x, x * number(unit.slopes[number_])) if prelu else sigmoid(x)
    return float(linear(unit.last, x)[0])


@pytest.mark.parametrize(("hidden", "activation"), [((5,), "sigmoid"), ((5, 3), "prelu")])
def test_din_equation_3(hidden: tuple[int, ...], activation: Any) -> None:
    """v_U(A) = sum over the events of a(e_j, v_A) e_j, with no softmax over the events."""
    unit, draw = randomised(ActivationUnit(D, hidden, activation)), np.random.default_rng(1)
    candidates, events = draw.normal(size=(2, D)), draw.normal(size=(6, D))
    mask = torch.ones(1, 6, 2, dtype=torch.bool)
    found = number(unit(torch.from_numpy(candidates[None]), torch.from_numpy(events[None]), mask))[0]
    for c, candidate in enumerate(candidates):
        weights = [weight_of(unit, candidate, event, activation == "prelu") for event in events]
        np.testing.assert_allclose(found[:, c], weights, rtol=1e-9)


def test_target_attention_event_by_event() -> None:
    """Per head: dots with the sum of events under each kernel, their maximum and log-sum-exp; means of the actions."""
    heads, kernels, sizes = 2, 2, {"fields": FIELDS, "slots": SLOTS, "actions": ACTIONS}
    net: Any = randomised(TargetAttention(D, **sizes, heads=heads, kernels=kernels, tables=TableOptions()))
    batch = example_batch()
    draw = np.random.default_rng(1)
    candidates, rows = draw.normal(size=(len(batch), D)), draw.normal(size=(len(batch.history.unique), D))
    rows[0] = 0
    net.item.forward = lambda unique: torch.zeros(len(unique), D).double().index_put((batch.item.inverse,), given)
    given = torch.from_numpy(candidates)
    net.past.forward = lambda unique: torch.from_numpy(rows)
    net.bias.forward = lambda unique: torch.zeros(len(unique), 1).double()
    net.side.forward = lambda batch: [torch.zeros(len(batch), D).double(), batch.numbers.double()]
    net.body.forward = lambda x: x[:, :0]
    items = batch.item.inverse.tolist()
    candidates = np.stack([candidates[max(b for b in range(len(items)) if items[b] == one)] for one in items])
    out, history = number(net(batch)), batch.history
    for b, r in enumerate(history.of.tolist()):
        span = range(int(history.offsets[r]), int(history.offsets[r + 1]))
        weights = [np.exp(number(net.recency)[history.age[e]] + number(net.action)[history.action[e]]) for e in span]
        events = [rows[history.index[e]] + number(net.actions.vectors)[history.action[e]] for e in span]
        expected: list[float] = []
        for h in range(heads):
            part = slice(h * D // heads, (h + 1) * D // heads)
            dots = [candidates[b][part] @ event[part] for event in events]
            for kernel in range(kernels):
                expected.append(sum(w[h * kernels + kernel] * dot for w, dot in zip(weights, dots, strict=True)))
            expected += [max([-5.0, *dots]), max(-5.0, np.log(sum(np.exp(dots)))) if dots else -5.0]
        expected += [0.0, 0.0, np.log1p(len(span)), *number(batch.numbers[b])]
        for each in [[1.0] * len(span), *zip(*weights, strict=True)] if len(span) else [[]] * (1 + heads * kernels):
            vectors = [number(net.outcome)[history.action[e]] for e in span]
            total = sum((w * v for w, v in zip(each, vectors, strict=True)), np.zeros(4))
            expected += list(total / (sum(each) + 1))
        np.testing.assert_allclose(out[b], expected, rtol=1e-6, atol=1e-7)

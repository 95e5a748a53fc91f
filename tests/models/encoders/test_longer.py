"""LONGER equals the written-out one, sample by sample."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from recdistill.models.encoders.longer import LongerStack, merged
from recdistill.models.encoders.packed import one_sequence
from tests.support.attention_reference import (
    WIDTH,
    bucket,
    encoded,
    may_see,
    pairwise,
    randomised,
    transformer_layer,
)


def longer(stack: LongerStack, x: Tensor, ago: Tensor, user: Tensor) -> Tensor:
    """One sample: x [history..., candidate], their us before it, its user -> state."""
    places = [stack.places[min(len(x) - 2 - j, len(stack.places) - 1)] for j in range(len(x) - 1)]
    events = [x[j] + places[j] + stack.times[bucket(int(ago[j]))] for j in range(len(x) - 1)]
    past, target = torch.stack(events) if events else x[:0], stack.enter(x[-1:])
    groups = [past[max(0, end - stack.merge) : end] for end in range(len(past), 0, -stack.merge)][::-1]
    tokens = []
    for group in groups:
        inside = stack.inner(group[None], torch.ones(1, len(group), dtype=torch.bool))[0]
        front = torch.zeros(stack.merge - len(group), WIDTH).double()
        tokens.append(functional.layer_norm(torch.cat([front, inside]).flatten(), (stack.output_width,)))
    all_ = torch.stack([*tokens, stack.user(user), stack.summary, target[0]])
    queries = all_[-stack.queries - 3 :]
    may = torch.ones(len(queries), len(all_), dtype=torch.bool).tril(len(all_) - len(queries))
    cross, d = stack.cross, stack.output_width // stack.cross.heads
    q, (k, v) = cross.query(cross.before_q(queries)), cross.pair(cross.before_k(all_)).chunk(2, 1)
    no_bias = torch.zeros(len(queries), len(all_))
    heads = [
        pairwise(q[:, p] * d**-0.5, k[:, p], v[:, p], no_bias, may, True)
        for p in (slice(h * d, (h + 1) * d) for h in range(cross.heads))
    ]
    queries = queries + cross.out(torch.cat(heads, 1))
    queries = queries + cross.ffn(cross.second(queries))
    for layer in (*stack.layers, stack.closing):
        queries = transformer_layer(layer, queries, torch.zeros(len(queries), dtype=torch.int64), may_see(len(queries)))
    return queries[-1]


@pytest.mark.parametrize(("merge", "queries"), [(2, 3), (4, 1), (3, 50), (1, 4)])
def test_longer(merge: int, queries: int) -> None:
    stack = randomised(LongerStack(WIDTH, 2, 12, 2, merge, queries))
    fast, alone = encoded(stack, (3, 1, 2), (4, 0, 9))
    for state, (x, ago, user) in zip(fast, alone, strict=True):
        torch.testing.assert_close(state, longer(stack, x, ago, user))


def test_groups_of_long_ago_have_an_order() -> None:
    """What few queries see of them is a weighted sum: only their places tell them apart."""
    stack = randomised(LongerStack(WIDTH, 2, 8, 1, 2, 1))
    torch.manual_seed(0)
    x, targets, user = (
        torch.randn(1, 8, WIDTH).double(),
        torch.randn(1, 1, WIDTH).double(),
        torch.zeros(1, WIDTH).double(),
    )
    swapped = x[:, [2, 3, 0, 1, 4, 5, 6, 7]]
    one, other = (stack(events, targets, one_sequence(8), user) for events in (x, swapped))
    assert float((one - other).detach().norm()) > 1e-3 * float(one.detach().norm())
    torch.nn.init.zeros_(stack.places)
    one, other = (stack(events, targets, one_sequence(8), user) for events in (x, swapped))
    torch.testing.assert_close(one, other)


def test_groups_end_with_the_newest_event() -> None:
    at = one_sequence(5)
    groups, real, all_ = merged(torch.arange(1.0, 6).view(1, 5, 1), at, 2)
    assert groups[0, :, :, 0].tolist() == [[0, 1], [2, 3], [4, 5]]
    assert real[0].tolist() == [[False, True], [True, True], [True, True]] and all_.lengths.tolist() == [3]

"""Weighted losses are weighted means, written out in float64; a row without a weight is as good as not there."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import torch
from hypothesis import given
from hypothesis import strategies as st

from recdistill.distill.listwise import listwise_loss
from recdistill.distill.losses import Supervision, label_loss, objective, signal_loss

NUMBER = st.floats(-5, 5)
ROWS = st.lists(st.tuples(NUMBER, NUMBER, st.floats(0, 1), st.sampled_from([0.0, 0.5, 1, 4])), min_size=1, max_size=8)
PAPER = SimpleNamespace(bias=0.0, nominal_retention=1.0, reading="outside")
SETTINGS: Any = SimpleNamespace(
    loss="cross-entropy", temperature=1.0, space="posterior", towers="single", label_scale=1.0, paper=PAPER
)


def columns(rows: list[tuple[float, ...]]) -> list[torch.Tensor]:
    return [torch.tensor(column, dtype=torch.float64)[:, None] for column in zip(*rows, strict=True)]


def cross_entropy(y: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
    p = torch.sigmoid(z)
    return -y * torch.log(p) - (1 - y) * torch.log(1 - p)


def close(one: torch.Tensor, other: torch.Tensor) -> bool:
    return bool(torch.allclose(one, other, atol=1e-9))


@given(ROWS)
def test_labels_and_signals_count_by_their_rows_weights(rows: list[tuple[float, ...]]) -> None:
    z, t, y, w = columns(rows)
    total = max(float(w.sum()), 1e-30)
    by_label = (w * cross_entropy(y, z)).sum() / total
    by_signal = (w * cross_entropy(torch.sigmoid(t), z)).sum() / total
    assert close(label_loss(z, y, w), by_label)
    assert close(signal_loss("cross-entropy", z, t, rows=w), by_signal)
    found = objective(z, None, Supervision(y, t, rows=w), SETTINGS, 0.5)
    assert close(found, by_label + 0.5 * by_signal)
    assert close(objective(z, None, Supervision(y, t, rows=3 * w), SETTINGS, 0.5), found)


@given(ROWS)
def test_a_row_of_weight_0_is_as_good_as_not_there(rows: list[tuple[float, ...]]) -> None:
    z, t, y, w = columns(rows)
    there = w[:, 0] > 0
    less = objective(z[there], None, Supervision(y[there], t[there], rows=w[there]), SETTINGS, 1.0)
    assert close(objective(z, None, Supervision(y, t, rows=w), SETTINGS, 1.0), less)


@given(ROWS)
def test_what_is_unknown_has_no_share(rows: list[tuple[float, ...]]) -> None:
    z, t, y, w = columns(rows)
    y[0], t[0] = math.nan, math.nan
    rest = max(float(w[1:].sum()), 1e-30)
    assert close(label_loss(z, y, w), (w * cross_entropy(y, z))[1:].sum() / rest)
    whole = max(float(w.sum()), 1e-30)  # a missing signal leaves what the others count as it is
    expected = (w * cross_entropy(torch.sigmoid(t), z))[1:].sum() / whole
    assert close(signal_loss("cross-entropy", z, t, rows=w), expected)


def test_a_lists_rows_count_by_their_weights() -> None:
    draw = torch.Generator().manual_seed(0)
    z, t = (torch.randn(6, 1, generator=draw, dtype=torch.float64) for _ in range(2))
    group, w = torch.tensor([0, 0, 0, 1, 1, 1]), torch.tensor([2.0, 2, 2, 1, 1, 1], dtype=torch.float64)[:, None]
    first, second = (listwise_loss(z[part], t[part], group[part], 1) for part in (slice(0, 3), slice(3, 6)))
    assert close(listwise_loss(z, t, group, w), (2 * first + second) / 9)

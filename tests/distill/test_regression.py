"""Labels and signals that are values count by Huber's loss, and nothing of sampling touches them."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from recdistill.distill.debias import KeepRates
from recdistill.distill.losses import Supervision, objective

NUMBER = st.floats(-4, 4)
ROWS = st.lists(st.tuples(NUMBER, NUMBER, NUMBER), min_size=1, max_size=6)
VALUES, RATES = torch.tensor([False, True]), [KeepRates(1.0, 0.1), KeepRates()]
OUTCOMES = [0.0, 1.0]


def huber(error: float) -> float:
    return error * error / 2 if abs(error) <= 1 else abs(error) - 0.5


def settings(space: str = "posterior", **more: float) -> Any:
    paper = SimpleNamespace(bias=0.1, nominal_retention=0.9, reading="outside")
    base = {"loss": "kl", "temperature": 2.0, "space": space, "towers": "single", "label_scale": 1.5, "paper": paper}
    return SimpleNamespace(**base | more)


def two(rows: list[tuple[float, ...]]) -> tuple[torch.Tensor, Supervision]:
    """Return (logits, what is learned from) of one task of outcomes and one of values."""
    z, y, t = (torch.tensor(column, dtype=torch.float64)[:, None] for column in zip(*rows, strict=True))
    outcome = (y > 0).double()
    given_ = Supervision(torch.cat([outcome, y], 1), torch.cat([t, t], 1), RATES, RATES, regression=VALUES)
    return torch.cat([z, z], 1), given_


@pytest.mark.parametrize("space", ["posterior", "student", "paper"])
@given(rows=ROWS)
def test_values_add_hubers_loss_of_labels_and_signals_in_every_space(space: str, rows: list[tuple[float, ...]]) -> None:
    logits, supervision = two(rows)
    found = objective(logits, None, supervision, settings(space), 0.5)
    first = Supervision(supervision.labels[:, :1], supervision.signals[:, :1], RATES[:1], RATES[:1])
    outcomes = objective(logits[:, :1], None, first, settings(space), 0.5) / 2  # each task is half of the mean
    n = 2 * len(rows)
    values = sum(huber(z - y) + 0.5 * huber(z - t) for z, y, t in rows) / n
    assert float(found) == pytest.approx(float(outcomes) + values, abs=1e-5)


def test_unknown_labels_and_missing_signals_count_nothing() -> None:
    logits, supervision = two([(1.0, 3.0, 0.0), (2.0, 0.5, 2.5)])
    supervision.labels[0], supervision.signals[1] = math.nan, math.nan
    found = objective(logits[:, 1:], None, _values_of(supervision), settings(), 1.0)
    assert float(found) == pytest.approx(huber(1.5) + huber(1.0) / 2, abs=1e-5)


def _values_of(supervision: Supervision) -> Supervision:
    labels, signals = supervision.labels[:, 1:], supervision.signals[:, 1:]
    return Supervision(labels, signals, RATES[1:], RATES[1:], regression=torch.tensor([True]))


def test_the_main_tower_gets_no_gradient_from_a_value_signal() -> None:
    logits, supervision = two([(1.0, 3.0, 0.0), (2.0, 0.5, 2.5)])
    main, aux = (logits.clone().requires_grad_(True) for _ in range(2))
    objective(main, aux, supervision, settings(towers="decoupled"), 3.0).backward()
    alone = logits.clone().requires_grad_(True)
    objective(alone, None, supervision, None, 0.0).backward()
    assert main.grad is not None and alone.grad is not None and torch.equal(main.grad, alone.grad)
    assert aux.grad is not None and not torch.allclose(aux.grad, main.grad)


def test_a_weight_per_task_is_of_values_too() -> None:
    logits, supervision = two([(1.0, 3.0, 0.0), (2.0, 0.5, 2.5)])
    none, some = (
        objective(logits, None, supervision, settings(), torch.tensor([0.0, weight])) for weight in (0.0, 2.0)
    )
    assert float(some - none) == pytest.approx(2 * (huber(1.0) + huber(0.5)) / 4, abs=1e-5)

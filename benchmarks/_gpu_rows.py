"""The kernels that move embedding rows against Adam and row-wise Adagrad in float64."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from recdistill.models.embeddings.fused_rows import Moved, RowState, adagrad, adam

__all__ = ["checked_rows"]

RATE, B1, B2, EPSILON, TOLERANCE = 0.01, 0.9, 0.999, 1e-8, 1e-5
MOST_STEPS = 500


def drawn(rows: int, width: int, moments: int, device: str) -> tuple[RowState, Moved]:
    """Return a table of so many rows in the middle of its training, of which a step moves half of a third."""
    torch.manual_seed(0)
    first, second = torch.randn(rows, width, device=device), torch.rand(rows, moments, device=device)
    steps = torch.randint(0, MOST_STEPS, (rows,), device=device, dtype=torch.int32)
    state = RowState(torch.randn(rows, width, device=device), first, second, steps)
    chosen = torch.randperm(rows, device=device)[: max(1, rows // 3)]
    pull = torch.randn(len(chosen), width, device=device)
    return state, Moved(chosen, pull, torch.arange(len(chosen), device=device) % 2 == 0)


def error(found: Tensor, wanted: Tensor) -> float:
    """Return how far a float32 tensor is from what it should be, of its norm."""
    return float((found.double() - wanted).norm() / wanted.norm())


def adam_error(rows: int, width: int, device: str) -> float:
    """Return how far Adam's kernel is off: the largest error of weights and moments."""
    state, moved = drawn(rows, width, width, device)
    at, pull = moved.rows[moved.wanted], moved.gradient[moved.wanted].double()
    weight, first, second = (part.double().clone() for part in (state.weight, state.first, state.second))
    count = (state.steps[at] + 1).double()[:, None]
    first[at] = B1 * first[at] + (1 - B1) * pull
    second[at] = B2 * second[at] + (1 - B2) * pull.square()
    weight[at] -= RATE * first[at] / (1 - B1**count) / ((second[at] / (1 - B2**count)).sqrt() + EPSILON)
    number = torch.arange(MOST_STEPS + 1, dtype=torch.float64, device=device).clamp(min=1)
    root = (1 - B2**number).sqrt()
    factors = (-RATE * root / (1 - B1**number)).float(), (EPSILON * root).float()
    adam(state, moved, *factors, 1.0, (B1, B2))
    return max(error(state.weight, weight), error(state.first, first), error(state.second, second))


def adagrad_error(rows: int, width: int, device: str) -> float:
    """Return how far the kernel of row-wise Adagrad is off."""
    state, moved = drawn(rows, width, 1, device)
    at, pull = moved.rows[moved.wanted], moved.gradient[moved.wanted].double()
    weight, second = state.weight.double().clone(), state.second.double().clone()
    second[at] += pull.square().mean(1, keepdim=True)
    weight[at] -= RATE * pull / (second[at].sqrt() + EPSILON)
    adagrad(state, moved, RATE, EPSILON, 1.0)
    return max(error(state.weight, weight), error(state.second, second))


def checked_rows(rows: int, width: int, device: str) -> list[dict[str, Any]]:
    """Return one record per kernel: kernel, error, tolerance."""
    found = {"adam": adam_error(rows, width, device), "rowwise-adagrad": adagrad_error(rows, width, device)}
    return [{"kernel": f"rows, {name}", "error": off, "tolerance": TOLERANCE} for name, off in found.items()]

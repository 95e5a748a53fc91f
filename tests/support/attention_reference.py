"""Attention written out pair by pair in float64: what the fast forms are held against."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["pairwise", "seen"]


def seen(i: int, j: int, length: int, band: int | None = None, columns: int = 0, at: str = "oldest") -> bool:
    """Return whether event i of a history of `length` may look at event j."""
    near = band is None or i - j < band
    column = j < columns if at == "oldest" else j >= length - columns
    return j <= i and (near or column)


def pairwise(query: Tensor, key: Tensor, value: Tensor, bias: Tensor, may: Tensor, softmax: bool = False) -> Tensor:
    """Return [n, d] of query [n, e], key [m, e], value [m, d], bias [n, m], may: bool [n, m]."""
    scores = query.double() @ key.double().T + bias.double()
    if softmax:
        weights = scores.masked_fill(~may, -torch.inf).softmax(1)
    else:
        weights = torch.nn.functional.silu(scores) * may
    return weights @ value.double()

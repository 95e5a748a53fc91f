"""Plain numbers: parameters as float64 arrays, and the small functions that papers take for granted."""

from __future__ import annotations

import numpy as np
from torch import Tensor, nn

from recdistill.typing import Array

__all__ = ["layer_norm", "linear", "number", "randomised", "rms_norm", "sigmoid", "silu", "softmax"]


def number(x: Tensor) -> Array:
    return x.detach().double().numpy()


def randomised(module: nn.Module, seed: int = 0) -> nn.Module:
    """Return the module in float64, no part of it zero or one."""
    draw = np.random.default_rng(seed)
    for parameter in module.double().parameters():
        parameter.data.copy_(Tensor(draw.normal(0, 0.5, tuple(parameter.shape))).double())
    return module


def linear(part: nn.Linear, x: Array) -> Array:
    bias = 0.0 if part.bias is None else number(part.bias)
    return number(part.weight) @ x + bias


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def silu(x: Array) -> Array:
    return x * sigmoid(x)


def softmax(x: Array) -> Array:
    e = np.exp(x - x.max())
    return e / e.sum()


def layer_norm(part: nn.LayerNorm, x: Array) -> Array:
    return (x - x.mean()) / np.sqrt(x.var() + part.eps) * number(part.weight) + number(part.bias)


def rms_norm(part: nn.RMSNorm, x: Array) -> Array:
    eps = np.finfo(np.float64).eps if part.eps is None else part.eps
    return x / np.sqrt((x * x).mean() + eps) * number(part.weight)

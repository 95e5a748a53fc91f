"""A teacher's hidden state in a few bytes (LoopFM, 2605.29280): an autoencoder with nested widths and a quantised
middle.

Each prefix of the code is to hold as much of the state as so few numbers can (Matryoshka), so that a student may read a
part of it. It learns from the teacher's hidden states while the teacher learns, with an optimiser of its own and no
gradient into the teacher, for the first rows only: later codes mean what they meant, which matters more than that they
fit (LoopFM, drift).
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from recdistill.distill.optimizer_state import load_state_dict, network_state
from recdistill.distill.sums import ONE, Sums, moments
from recdistill.typing import Array

__all__ = ["HiddenStateCodec", "packed", "quantised", "unpacked"]

Bits = Literal[4, 8]
SEED = 29
MEMORY = 0.99  # of the running mean and variance, per step
NESTED = 3  # widths D, D / 2, D / 4


def quantised(z: Tensor, bits: Bits) -> Tensor:
    """Return z in [-1, 1) rounded to 2^bits steps, with the gradient of z (straight-through): clamp(round(8
    z), -8, 7) / 8 for 4.
    """
    half = 2 ** (bits - 1)
    return torch.add(z, ((z * half).round().clamp(-half, half - 1) / half - z).detach())


def packed(codes: Tensor, bits: Bits) -> Array:
    """Return uint8 [n, D * bits / 8] of quantised codes [n, D]; of 4 bits two go into a byte, the first one low."""
    whole: Array = (codes * 2 ** (bits - 1)).round().to(torch.int8).numpy().view(np.uint8)
    if bits == 8:
        return whole
    low = whole & 15
    return np.ascontiguousarray(low[:, 0::2] | (low[:, 1::2] << 4))


def unpacked(data: Array, bits: Bits) -> Array:
    """Return float32 [..., D], the codes that were packed."""
    if bits == 8:
        return data.view(np.int8).astype(np.float32) / 128
    both = np.stack((data & 15, data >> 4), -1).reshape(*data.shape[:-1], -1).astype(np.int8)
    return np.where(both > 7, both - 16, both).astype(np.float32) / 8


class HiddenStateCodec:
    """From hidden states [B, H] to codes [B, D]; learns from the first `rows` rows."""

    def __init__(self, inputs: int, width: int, bits: Bits, rate: float, rows: int) -> None:
        self.width, self.bits, self.rows, self.seen = width, bits, rows, 0
        self.widths = [width >> k for k in range(NESTED) if width >> k]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(SEED)
            parts = {"encode": nn.Linear(inputs, width), **{f"decode_{w}": nn.Linear(w, inputs) for w in self.widths}}
        self.network = nn.ModuleDict(parts)
        self.mean, self.variance = torch.zeros(inputs), torch.ones(inputs)
        self.optimiser = torch.optim.Adam(self.network.parameters(), lr=rate)

    def encode(self, hidden: Tensor) -> Tensor:
        """Return quantised codes [B, D] in [-1, 1)."""
        return quantised(torch.tanh(self.network["encode"](self._normal(hidden))), self.bits)

    def _normal(self, hidden: Tensor) -> Tensor:
        return (hidden - self.mean) * torch.rsqrt(self.variance + 1e-6)

    def learn(self, hidden: Tensor, ranks: Sums = ONE) -> float:
        """Take a step on states [B, H] while there are rows left to learn from; return the mean squared error over all
        widths, of several ranks this one's part of it. ranks: those that have the step's other rows.
        """
        if self.seen >= self.rows:
            return 0.0
        hidden = hidden.detach()
        keep = MEMORY if self.seen else 0.0
        rows, mean, variance = moments(hidden, ranks)
        self.mean = keep * self.mean + (1 - keep) * mean
        self.variance = keep * self.variance + (1 - keep) * variance
        wanted, codes = self._normal(hidden), self.encode(hidden)
        errors = [(self.network[f"decode_{width}"](codes[:, :width]) - wanted).square().sum() for width in self.widths]
        loss = (torch.stack(errors) / (rows * hidden.shape[1])).mean()
        self.optimiser.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        ranks.sum_in_place([one.grad for one in self.network.parameters() if one.grad is not None])
        self.optimiser.step()
        self.seen += rows
        return float(loss.detach())

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return what `restore` takes."""
        return network_state(self.network, self.optimiser) | {"mean": self.mean, "variance": self.variance}, {
            "seen": self.seen
        }

    def restore(self, tensors: dict[str, Tensor], state: dict[str, Any]) -> None:
        """Take up a saved state."""
        load_state_dict(self.network, self.optimiser, tensors)
        self.mean, self.variance, self.seen = tensors["mean"], tensors["variance"], int(state["seen"])

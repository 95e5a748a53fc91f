"""An optimiser's state as flat tensors, and back."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["load_slots", "slots_of"]


def slots_of(optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return what an optimiser remembers, named optimiser/PARAMETER/SLOT."""
    state = optimiser.state_dict()["state"]
    return {f"optimiser/{i}/{key}": torch.as_tensor(value) for i, slots in state.items() for key, value in slots.items()}


def load_slots(optimiser: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Let an optimiser remember what `slots_of` returned; other tensors are left alone."""
    slots: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        if key.startswith("optimiser/"):
            _, i, name = key.split("/")
            slots.setdefault(int(i), {})[name] = value
    optimiser.load_state_dict({"state": slots, "param_groups": optimiser.state_dict()["param_groups"]})

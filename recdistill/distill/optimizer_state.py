"""A network and its optimiser as flat tensors, and back."""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["network_state", "load_state_dict"]


def network_state(network: nn.Module, optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return all that the next step depends on, named network/PARAMETER and optimiser/PARAMETER/SLOT."""
    tensors = {f"network/{name}": value for name, value in network.state_dict().items()}
    state = optimiser.state_dict()["state"]
    return tensors | {
        f"optimiser/{i}/{key}": torch.as_tensor(value) for i, slots in state.items() for key, value in slots.items()
    }


def load_state_dict(network: nn.Module, optimiser: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Take up what `network_state` returned; other tensors are left alone."""
    network.load_state_dict(
        {name.removeprefix("network/"): value for name, value in tensors.items() if name.startswith("network/")}
    )
    slots: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        if name.startswith("optimiser/"):
            _, i, slot = name.split("/")
            slots.setdefault(int(i), {})[slot] = value
    optimiser.load_state_dict({"state": slots, "param_groups": optimiser.state_dict()["param_groups"]})

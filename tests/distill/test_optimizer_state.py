"""A network and its optimiser go on, from flat tensors, as if they had never stopped."""

from __future__ import annotations

import torch
from torch import nn

from recdistill.distill.optimizer_state import load_state_dict, network_state
from tests.support.runs import same_bits


def made(seed: int) -> tuple[nn.Module, torch.optim.Optimizer]:
    """Return a small network and its optimiser."""
    torch.manual_seed(seed)
    network = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))
    return network, torch.optim.Adam(network.parameters(), lr=0.1)


def steps(network: nn.Module, optimiser: torch.optim.Optimizer, count: int) -> None:
    """Take some steps on the same data."""
    data = torch.arange(12.0).view(4, 3)
    for _ in range(count):
        optimiser.zero_grad()
        network(data).square().mean().backward()
        optimiser.step()


def test_the_next_steps_are_the_same_bit_for_bit() -> None:
    one, other = made(0), made(1)
    steps(*one, 3)
    saved = {name: tensor.clone() for name, tensor in network_state(*one).items()}
    load_state_dict(*other, saved | {"of another part": torch.ones(1)})
    for pair in (one, other):
        steps(*pair, 2)
    assert same_bits(network_state(*one), network_state(*other))


def test_what_has_no_state_yet_is_loaded_too() -> None:
    one, other = made(0), made(1)
    load_state_dict(*other, network_state(*one))
    assert set(network_state(*other)) == {f"network/{name}" for name in one[0].state_dict()}
    assert same_bits(network_state(*one), network_state(*other))

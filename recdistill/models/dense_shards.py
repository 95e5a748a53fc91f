"""The dense part of a model spread over ranks by FSDP2: each rank keeps a share of every weight, gathers a layer when it is its turn,
and gets back its share of the gradients' sum.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor, distribute_tensor

from recdistill.models.ranks import Ranks

__all__ = ["Sharded"]

CALLED = ("last", "shared", "heads")  # what is called besides forward, and needs the gathered weights too


@dataclass(frozen=True)
class Sharded:
    """Every rank holds a share of each parameter; `spread` makes it so."""

    ranks: Ranks

    def spread(self, network: nn.Module) -> None:
        """Spread the network's parameters, layer by layer; from then on backward adds the gradients up."""
        mesh = init_device_mesh("cpu", (self.ranks.size,))
        for part in (*reversed(_layers(network)), network):
            fully_shard(part, mesh=mesh)
        for part in network.modules():
            if isinstance(part, FSDPModule):
                part.set_force_sum_reduction_for_comms(True)
                part.set_gradient_divide_factor(1.0)
                for name in CALLED:
                    if callable(getattr(part, name, None)):
                        register_fsdp_forward_method(part, name)

    def add_up(self, network: nn.Module) -> None:
        """Do nothing: backward did it."""

    def local(self, tensor: Tensor) -> Tensor:
        """Return what this rank holds of a tensor."""
        return tensor.to_local() if isinstance(tensor, DTensor) else tensor

    def whole(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the tensors of a state in full; a call of all ranks together."""
        return {name: value.full_tensor() if isinstance(value, DTensor) else value for name, value in tensors.items()}

    def shares(self, network: nn.Module, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return what this rank takes of a whole state of `network` and its optimiser."""
        by_name = {f"network/{name}": parameter for name, parameter in network.named_parameters()}
        by_place = list(network.parameters())
        found = {}
        for name, value in tensors.items():
            place = name.split("/")[1] if name.startswith("optimiser/") else None
            found[name] = _like(value, by_name.get(name) if place is None else by_place[int(place)])
        return found


def _like(value: Tensor, pattern: Tensor | None) -> Tensor:
    """Return a whole value spread as `pattern` is, or as it is where that one is whole, or of another shape."""
    if not isinstance(pattern, DTensor) or value.shape != pattern.shape:
        return value
    return torch.as_tensor(distribute_tensor(value, pattern.device_mesh, pattern.placements))


def _layers(network: nn.Module) -> list[nn.Module]:
    """Return the parts that are gathered one at a time, outer ones first: what stands in a list, and what closes a stack."""
    found: list[nn.Module] = []
    for parent in network.modules():
        listed = isinstance(parent, nn.ModuleList)
        inside = [child for name, child in parent.named_children() if listed or name == "closing"]
        found += [part for part in inside if any(True for _ in part.children()) and part not in found]
    return found

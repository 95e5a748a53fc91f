"""The dense part of a model spread over ranks by FSDP2: each rank keeps a share of every weight, gathers a layer when
it is used, and gets back its share of the gradients' sum.

Weights of a token mixer's layers may first be spread by tokens over the ranks of a group, where they stay; what a rank
has of them is spread over the ranks that have the same tokens, the copies. So rank r of C copies has tokens of the
group's rank r // C, and one upon the other the shares of all ranks are the whole, as without groups.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor, Shard, distribute_module, distribute_tensor
from torch.nn.modules.module import register_module_module_registration_hook

from recdistill.distributed.ranks import DENSE, Ranks, Rows, gradients_of, in_full
from recdistill.distributed.shard_units import is_layer
from recdistill.distributed.token_ranks import MixesTokens, TokenRanks

__all__ = ["Sharded"]

ENTRY_POINTS = ("last", "shared", "heads", "adapted_head")  # called besides forward, and need gathered weights too
COPIES, TOKENS = "copies", "tokens"  # the two directions in which ranks stand
Network = TypeVar("Network", bound=nn.Module)


@dataclass(frozen=True)
class Sharded:
    """Every rank holds a share of each parameter, on its device; `built` makes it so."""

    ranks: Ranks
    device: torch.device

    def built(self, make: Callable[[], Network]) -> Network:
        """Return what `make` makes, spread: of a layer only this rank's share is kept as soon as it stands in its list.

        Every rank draws all weights, in one order, and so starts as one process would. From then on backward adds
        gradients up.
        """
        if self.device.type == "cuda":
            torch.cuda.set_device(self.device)
        mesh, grid = init_device_mesh(self.device.type, (self.ranks.size,)), self._grid()

        def keep_share(parent: nn.Module, name: str, part: nn.Module | None) -> None:
            if part is not None and is_layer(parent, name, part):
                if grid is not None:
                    _spread_tokens(part, grid, self.ranks.short)
                _spread(part, mesh, self.ranks.short)

        hook = register_module_module_registration_hook(keep_share)
        try:
            network = make()
        finally:
            hook.remove()
        _spread(network, mesh, self.ranks.short)
        if grid is not None:
            group = TokenRanks(self.ranks.tensor, grid.get_group(TOKENS))
            for part in network.modules():
                if isinstance(part, MixesTokens):
                    part.over = group
        return network

    def _grid(self) -> DeviceMesh | None:
        """Return the ranks [copies, ranks that share a layer], None where none do."""
        if self.ranks.tensor == 1:
            return None
        ranks, wait = torch.arange(self.ranks.size, device="cpu").view(self.ranks.tensor, -1).T, self.ranks.timeout
        groups = []
        for lines in (ranks.T, ranks):
            own, _ = dist.new_subgroups_by_enumeration(lines.tolist(), timeout=wait)  # type: ignore[no-untyped-call]
            groups.append(own)
        return DeviceMesh.from_group(groups, self.device.type, ranks, mesh_dim_names=(COPIES, TOKENS))

    def add_up(self, network: nn.Module, total: Tensor) -> float:
        """Return what is finite where the gradients, which backward has added up, and `total`, float32 [1], of all
        ranks are.
        """
        shares = torch.stack([self.local(gradient).sum() for gradient in gradients_of(network)])
        total = total + shares.sum().cpu()
        self.ranks.sum_in_place([total])
        return float(total)

    def clip(self, network: nn.Module, most: float) -> None:
        """Scale the gradients down to a norm of at most `most`, all ranks' together, as torch.nn.utils.clip_grad_norm_
        does; in one message.
        """
        gradients = [self.local(gradient) for gradient in gradients_of(network)]
        square = torch.stack([gradient.square().sum() for gradient in gradients]).sum()[None].cpu()
        self.ranks.sum_in_place([square])
        scale = most / (float(square.sqrt()) + 1e-6)
        for gradient in gradients if scale < 1 else ():
            gradient.mul_(scale)

    def whole(self, network: Network, make: Callable[[], Network]) -> Network:
        """Return what `make` makes with all weights of a network of its kind, which is spread; its embedding rows stay
        where they are.
        """
        found = make()
        found.load_state_dict({name: in_full(value) for name, value in network.state_dict().items()})
        return found

    def spread(self, whole: Network, make: Callable[[], Network]) -> Network:
        """Return what `make` makes, spread, with the weights of a network of its kind that has all of them."""
        found = self.built(make)
        self.take(found, whole)
        return found

    def take(self, network: nn.Module, whole: nn.Module) -> None:
        """Give a network this rank's share of the weights of one of its kind that has all of them."""
        weights = {f"network/{name}": value for name, value in whole.state_dict().items()}
        shares = self.shares(network, weights)
        network.load_state_dict({name.removeprefix("network/"): value for name, value in shares.items()})

    def local(self, tensor: Tensor) -> Tensor:
        """Return what this rank holds of a tensor."""
        return tensor.to_local() if isinstance(tensor, DTensor) else tensor

    def mine(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return what this rank writes of a state: its shares, and on the first rank what is not spread."""
        return {
            name: self.local(value) for name, value in tensors.items() if self.ranks.first or isinstance(value, DTensor)
        }

    def shares(self, network: nn.Module, stored: Mapping[str, Rows]) -> dict[str, Tensor]:
        """Return what this rank takes of a whole state of `network` and its optimiser; nothing else is read."""
        by_name = {f"network/{name}": parameter for name, parameter in network.named_parameters()}
        by_place = list(network.parameters())
        found = {}
        for name, value in stored.items():
            if name.startswith(DENSE):
                place = name.split("/")[1] if name.startswith("optimiser/") else None
                found[name] = self.share(value, by_name.get(name) if place is None else by_place[int(place)])
        return found

    def share(self, value: Rows, pattern: Tensor | None) -> Tensor:
        """Return this rank's rows, spread as `pattern` is, or all of them where `pattern` is whole or of
        another shape.
        """
        if not isinstance(pattern, DTensor) or value.shape != pattern.shape:
            return value[...]
        with torch.no_grad():
            share = torch.empty_like(pattern, requires_grad=False)
            by_token = TOKENS in (pattern.device_mesh.mesh_dim_names or ())
            rows = self.ranks.chunk_of_tokens(len(pattern)) if by_token else self.ranks.chunk(len(pattern))
            self.local(share).copy_(value[rows])
        return share


def _spread_tokens(layer: nn.Module, grid: DeviceMesh, short: bool) -> None:
    """Keep this rank's tokens of the parts of a layer that have weights of their own for each, and spread them over
    copies; nothing is sent, for every rank has drawn them all.
    """

    def keep_tokens(_: str, part: nn.Module, tokens: DeviceMesh) -> None:
        for name, weight in part.named_parameters(recurse=False):
            own = distribute_tensor(weight.detach(), tokens, [Shard(0)], src_data_rank=None)
            part.register_parameter(name, nn.Parameter(own))

    for name in getattr(layer, "by_token", ()):
        _spread(distribute_module(layer.get_submodule(name), grid[TOKENS], keep_tokens), grid[COPIES], short)


def _spread(part: nn.Module, mesh: DeviceMesh, short: bool) -> None:
    """Spread the parameters of a part that are not spread yet; short: gradients are summed in bfloat16. Weights are
    gathered as they are.
    """
    sums = MixedPrecisionPolicy(reduce_dtype=torch.bfloat16 if short else None)
    fully_shard(part, mesh=mesh, mp_policy=sums)
    if isinstance(part, FSDPModule):
        part.set_force_sum_reduction_for_comms(True)
        part.set_gradient_divide_factor(1.0)
        for name in ENTRY_POINTS:
            if callable(getattr(type(part), name, None)):
                register_fsdp_forward_method(part, name)

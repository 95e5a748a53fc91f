"""The cost of a backbone, counted operation by operation: encoders of histories on the meta device, where
nothing is allocated.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from recdistill.data.batch.batch import Batch, History, Lookup, Vectors
from recdistill.data.batch.extras import NO_EXTRAS
from recdistill.data.batch.numbers import NUMBERS
from recdistill.models.attention.target_ops import weighted_sum
from recdistill.models.backbones.sequence import SequenceBackbone
from recdistill.models.encoders.hstu import HSTUStack
from recdistill.models.encoders.packed import one_sequence
from recdistill.models.heads import predicts_apart
from recdistill.models.layers.blocks import SideFeatures
from recdistill.models.layers.pooling import FEATURES, SequencePools

__all__ = ["Cost", "cost_of"]


@dataclass(frozen=True)
class Cost:
    """The cost of one history and its samples.

    dense_parameters: learned numbers; forward_flops, step_flops: of the products alone, a step being forward and
    backward, after a forward pass of its own where predictions are made apart; activation_bytes: what the forward pass
    keeps for the backward one.
    """

    dense_parameters: int
    forward_flops: int
    step_flops: int
    activation_bytes: int


def cost_of(backbone: nn.Module, events: int, samples: int = 1) -> Cost:
    """Return what a history of `events` events with `samples` samples costs a backbone of `build_backbone`.

    One with encoders may stand on the meta device; others are run, on zeros. Elementwise work is not counted.
    """
    from torch.utils.flop_counter import FlopCounterMode  # imports triton, where it is installed

    dense = sum(parameter.numel() for parameter in backbone.parameters())
    with FlopCounterMode(display=False) as counter:
        out = _run(backbone, events, samples)
        forward = counter.get_total_flops()
        torch.autograd.backward(out.sum())
    step = counter.get_total_flops() + (forward if predicts_apart(backbone) else 0)
    return Cost(dense, forward, step, _kept(backbone, events, samples))


def _kept(backbone: nn.Module, events: int, samples: int) -> int:
    """Return the bytes kept for the backward pass. Of stacks that recompute: every layer's input, and twice what the
    largest layer keeps, which is held with its gradients while it is recomputed.
    """
    own, kept, hooks = {_storage(parameter) for parameter in backbone.parameters()}, _Kept(), []
    stacks = [part for part in backbone.modules() if isinstance(part, HSTUStack) and part.recompute]
    for stack in stacks:
        stack.recompute = False
        hooks += [hook for layer in stack.layers for hook in _watched(layer, kept)]

    def keep(tensor: Tensor) -> Tensor:
        if _storage(tensor) not in own:
            kept.tensors[_storage(tensor)] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        _run(backbone, events, samples)
    for stack in stacks:
        stack.recompute = True
    for handle in hooks:
        handle.remove()
    return kept.size() - sum(kept.layers) + sum(kept.inputs) + 2 * max(kept.layers, default=0)


@dataclass
class _Kept:
    """tensors: what is kept, by storage; layers, inputs: bytes that each recomputed layer keeps, and is given."""

    tensors: dict[int, Tensor] = field(default_factory=dict)
    layers: list[int] = field(default_factory=list)
    inputs: list[int] = field(default_factory=list)

    def size(self) -> int:
        """Return the bytes kept so far."""
        return sum(tensor.untyped_storage().nbytes() for tensor in self.tensors.values())


def _watched(layer: nn.Module, kept: _Kept) -> tuple[Any, Any]:
    """Note how many bytes a layer keeps when it is called; return the hooks."""

    def before(_layer: nn.Module, given: tuple[Any, ...]) -> None:
        kept.inputs.append(sum(part.untyped_storage().nbytes() for part in given[:2]))
        kept.layers.append(-kept.size())

    def after(_layer: nn.Module, _given: Any, _out: Any) -> None:
        kept.layers[-1] += kept.size()

    return layer.register_forward_pre_hook(before), layer.register_forward_hook(after)


def _storage(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)


def _run(backbone: nn.Module, events: int, samples: int) -> Tensor:
    if not isinstance(backbone, SequenceBackbone):
        return torch.as_tensor(backbone(_batch(backbone, events, samples)))
    device = next(backbone.parameters()).device
    width = backbone.inputs.item.width
    history = torch.zeros(1, max(events, 1), width, device=device, requires_grad=True)
    targets = torch.zeros(1, samples, width, device=device, requires_grad=True)
    rules = backbone.actions, backbone.short
    backbone.actions, backbone.short = None, False  # all events, in float32: at most what it will cost
    user = torch.zeros(1, width, device=device, requires_grad=True)
    states = backbone.encode(history, targets, one_sequence(events, device), user)
    backbone.actions, backbone.short = rules
    inputs = backbone.inputs
    vectors = _of_vectors(inputs.side, samples, device)
    sizes = width, inputs.side.width - width * (1 + len(vectors)) - NUMBERS, NUMBERS
    user_row, others, numbers = (torch.zeros(samples, size, device=device) for size in sizes)
    side = [user_row, others, *vectors, *_of_sequences(inputs.given, targets, history), numbers]
    mean, length = history.mean(1).expand(samples, -1), torch.full((samples,), events, device=device)
    return backbone.mix(targets[0], states[0], mean, length, side)


def _of_vectors(side: SideFeatures, samples: int, device: torch.device) -> list[Tensor]:
    """Return what pre-trained vectors become, each sample's by itself."""
    widths = dict(side.extras.vectors)
    return [one(torch.zeros(samples, widths[name], device=device)) for name, one in side.vectors.items()]


def _of_sequences(pools: SequencePools, targets: Tensor, events: Tensor) -> list[Tensor]:
    """Return what sequences as long as the history become."""
    mask = torch.ones(1, events.shape[1], targets.shape[1], dtype=torch.bool, device=events.device)
    vectors = [weighted_sum(unit(targets, events, mask), events)[0] for unit in pools.units]
    return [functional.pad(vector, (0, FEATURES)) for vector in vectors]


def _batch(backbone: nn.Module, events: int, samples: int) -> Batch:
    """Return a batch of one request whose ids are all unknown."""
    side: Any = next((part for part in backbone.modules() if hasattr(part, "slots")), None)
    fields, slots = (side.fields, side.slots) if side else (1, 1)  # a model of the user's own: one of each
    extras = side.extras if side else NO_EXTRAS
    zeros = torch.zeros(events, dtype=torch.int64)

    def column(*shape: int) -> Lookup:
        return Lookup(torch.arange(2), torch.ones(shape, dtype=torch.int64))

    history = History(
        torch.arange(2), zeros + 1, zeros, zeros, torch.tensor([0, events]), torch.zeros(samples, dtype=torch.int64)
    )
    blank = torch.full((samples, 1), float("nan"))
    return Batch(
        torch.arange(samples),
        column(samples),
        column(samples),
        column(samples, fields),
        column(samples, slots),
        history,
        torch.zeros(samples, NUMBERS),
        blank,
        blank,
        torch.zeros(samples, extras.values),
        (history,) * extras.sequences,
        vectors={name: Vectors(torch.zeros(samples, width), torch.arange(samples)) for name, width in extras.vectors},
    )

"""A pruned network has the weights that torch-pruning leaves it, which finds by itself, in a graph of the network's
operations, what belongs to a unit. It knows nothing of embedding tables, so that networks read plain vectors here.
"""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from recdistill.compress.transplant import move_weights
from recdistill.models.backbones import dcn
from recdistill.models.embeddings.growable import TableOptions
from recdistill.models.layers.blocks import MLP
from recdistill.models.widths import NetworkWidths, joined, linear, under, widths_of

READ = 5  # numbers of the plain vector


class PlainInputs(nn.Module):
    """A backbone's inputs that are made of a plain vector: [B, READ] -> [[B, width]]."""

    def __init__(self, width: int, *_: object) -> None:
        super().__init__()
        self.layer, self.width, self.item = nn.Linear(READ, width), width, SimpleNamespace(width=width)

    def widths(self) -> NetworkWidths:
        return NetworkWidths({}, under("layer", linear(["width"], [READ])), outputs=(("width",),))

    def pooled(self, x: Tensor) -> list[Tensor]:
        return [self.layer(x)]


class Plain(nn.Module):
    """A body, of which `made` are the layers that make each of its widths, under one last layer."""

    def __init__(self, body: nn.Module, widths: Callable[[], NetworkWidths], made: dict[str, nn.Linear]) -> None:
        super().__init__()
        self.body, self.of_body, self.made = body, widths, dict(made)
        self.last = nn.Linear(body.output_width, 1)  # type: ignore[arg-type]

    def widths(self) -> NetworkWidths:
        body = self.of_body()
        return joined({"body": body}, (1,), under("last", linear([1], body.outputs)))

    def forward(self, x: Tensor) -> Tensor:
        return torch.as_tensor(self.last(self.body(x)))


def of_mlp(sizes: list[int], _: int) -> Plain:
    body = MLP(READ, sizes)
    return Plain(body, lambda: body.widths([READ]), layers_of(body))


def of_dcn(sizes: list[int], crosses: int) -> Plain:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dcn, "Inputs", PlainInputs)
        tables = TableOptions()
        body = dcn.DCNv2(sizes[0], fields=0, slots=0, actions=1, crosses=crosses, hidden=sizes[1:], tables=tables)
    return Plain(body, body.widths, {"width": body.inputs.layer} | layers_of(body.body))  # type: ignore[dict-item]


def layers_of(body: MLP) -> dict[str, nn.Linear]:
    return {f"hidden.{number}": layer for number, layer in enumerate([*body][::2])}  # type: ignore[misc]


@pytest.mark.parametrize("make", [of_mlp, of_dcn])
@settings(max_examples=15)
@given(
    sizes=st.lists(st.integers(1, 9), min_size=2, max_size=4),
    crosses=st.integers(1, 3),
    data=st.data(),
)
def test_torch_pruning_agrees(
    make: Callable[[list[int], int], Plain], sizes: list[int], crosses: int, data: st.DataObject
) -> None:
    import torch_pruning as pruning

    large = make(sizes, crosses)
    kept = {
        name: sorted(data.draw(st.sets(st.integers(0, size - 1), min_size=1), label=name))
        for name, size in widths_of(large).sizes.items()
        if name in large.made
    }
    small, every = make([len(kept[name]) for name in large.made], crosses), {"crosses": torch.arange(crosses)}
    move_weights(large, small, every | {name: torch.tensor(own) for name, own in kept.items()})
    graph = pruning.DependencyGraph().build_dependency(large, example_inputs=torch.randn(2, READ))
    for name, layer in large.made.items():
        gone = sorted({*range(layer.out_features)} - {*kept[name]})
        if gone:
            graph.get_pruning_group(layer, pruning.prune_linear_out_channels, idxs=gone).prune()
    found, wanted = small.state_dict(), large.state_dict()
    assert found.keys() == wanted.keys() and all(torch.equal(found[name], wanted[name]) for name in wanted)
    x = torch.randn(4, READ, generator=torch.Generator().manual_seed(0))
    assert torch.equal(small(x), large(x))

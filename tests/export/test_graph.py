"""The exported graph gives the network's logits, whatever the kind, the history and the number of candidates."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from recdistill.data.batch.batch import Batch
from recdistill.errors import UserError
from recdistill.export.batch_inputs import graph_inputs
from recdistill.export.graph import ServedNetwork, onnx_graph
from recdistill.export.inputs import Shape
from recdistill.models.embeddings.growable import GrowableTable, TableOptions
from recdistill.models.examples import ACTIONS, EXTRAS, FIELDS, LENGTH, SLOTS, example_batch
from recdistill.models.factory import BACKBONES, build_backbone, table_modules
from recdistill.models.heads import Towers

WIDTH = 8
SHAPE = Shape(LENGTH, FIELDS, SLOTS, EXTRAS)
VARIANTS: list[tuple[str, dict[str, Any]]] = [
    *((kind, {}) for kind in BACKBONES),
    ("din", {"activation": "dice"}),
    ("din", {"activation": "prelu", "unit": [16, 8]}),
    ("target-attention", {"heads": 2, "kernels": 4, "rich": True}),
    ("hstu", {"band": 3, "columns": 2, "columns_at": "newest", "contextual": True, "heads": 2, "layers": 1}),
    ("hstu", {"transducers": [[0], [1]], "newest": 4, "newest_layers": 1}),
    ("transformer", {"block": "sasrec", "bias": ["position", "time"], "band": 4, "layers": 1}),
    ("token-mixer", {"variant": "rankmixer", "experts": 4, "active": 2, "mixer_layers": 1}),
]


class Plain(nn.Module):
    """A user's own network: item, user and the numbers."""

    def __init__(self, width: int, *, tables: TableOptions) -> None:
        super().__init__()
        self.item = GrowableTable(width, seed=tables.seed, name="item", std=0.1)
        self.body = nn.Linear(width + 7, 5)
        self.output_width = 5

    def forward(self, batch: Batch) -> Tensor:
        rows = self.item(batch.item.unique).index_select(0, batch.item.inverse)
        return torch.as_tensor(self.body(torch.cat([rows, batch.numbers], 1)))


class Unused(Plain):
    """One with a table that it never looks up, before the one that it does."""

    def __init__(self, width: int, *, tables: TableOptions) -> None:
        super().__init__(width, tables=tables)
        self.item, self.spare = GrowableTable(width, seed=1, name="spare", std=0.1), self.item

    def forward(self, batch: Batch) -> Tensor:
        rows = self.spare(batch.item.unique).index_select(0, batch.item.inverse)
        return torch.as_tensor(self.body(torch.cat([rows, batch.numbers], 1)))


class Rowless(Plain):
    """One that looks no table up."""

    def forward(self, batch: Batch) -> Tensor:
        zeros = torch.zeros(batch.item.inverse.shape[0], self.item.width)
        return torch.as_tensor(self.body(torch.cat([zeros, batch.numbers], 1)))


class Counting(Plain):
    """One that looks at how many candidates there are, which a graph cannot."""

    def forward(self, batch: Batch) -> Tensor:
        return super().forward(batch) / int(batch.item.inverse.sum())


def network(backbone: nn.Module) -> Towers:
    torch.manual_seed(1)
    made = Towers(backbone, 2, layout="decoupled", adapted=True)
    for parameter in made.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    return made.eval()


def built(kind: str, options: dict[str, Any]) -> Towers:
    torch.manual_seed(0)
    shape = {"fields": FIELDS, "slots": SLOTS, "actions": ACTIONS, "length": LENGTH}
    return network(build_backbone(kind, width=WIDTH, tables=TableOptions(), options=options, extras=EXTRAS, **shape))


def with_graph(towers: Towers) -> tuple[Towers, ServedNetwork, bytes]:
    """Return a network, what is exported of it, and its graph."""
    served = ServedNetwork(towers, SHAPE)
    return towers, served, onnx_graph(served)


@cache
def exported(at: int) -> tuple[Towers, ServedNetwork, bytes]:
    """Return `with_graph` of a variant: made once, for that takes seconds."""
    return with_graph(built(*VARIANTS[at]))


def of_variant(at: int) -> Any:
    """Return a variant as a test's parameter; `make test` exports each kind once, without options."""
    kind, options = VARIANTS[at]
    return pytest.param(at, id=f"{kind}-{len(options)}", marks=[pytest.mark.long] if options else [])


def worst(towers: Towers, served: ServedNetwork, graph: bytes) -> float:
    """Return the largest difference of a logit over users with 0 to 9 events and 1 to 7 candidates, alone and
    together.
    """
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    wanted = {one.name for one in session.get_inputs()}
    tables = {at: table.peek(torch.arange(64)).numpy() for at, table in enumerate(table_modules(towers))}
    found = []
    alone = [((candidates,), (events,)) for candidates, events in ((1, 0), (1, 9), (2, 1), (7, 5), (7, 0), (3, 9))]
    for seed, (candidates, events) in enumerate([*alone, ((1, 1), (0, 9)), ((3, 1, 2), (4, 0, 9))]):
        batch = example_batch(candidates, events, seed)
        inputs = graph_inputs(batch, served, tables)
        got = session.run(None, {name: inputs[name] for name in wanted})[0]
        with torch.no_grad():
            found.append(np.abs(got - towers(batch)[0].numpy()).max())
    return float(np.max(found))


@pytest.mark.parametrize("at", [of_variant(at) for at in range(len(VARIANTS))])
def test_the_graph_gives_the_networks_logits(at: int) -> None:
    assert worst(*exported(at)) < 1e-5


@pytest.mark.parametrize("kind", [Plain, Unused, Rowless])
def test_a_network_of_the_users_own_is_exported(kind: type[Plain]) -> None:
    assert worst(*with_graph(network(kind(8, tables=TableOptions())))) < 1e-5


def test_what_a_graph_cannot_say_is_refused_in_one_line() -> None:
    with pytest.raises(UserError, match="torch.export does not take it") as caught:
        onnx_graph(ServedNetwork(network(Counting(8, tables=TableOptions())), SHAPE))
    assert "\n" not in str(caught.value)


def test_the_graph_holds_the_served_numbers_each_once() -> None:
    """To the byte: those of backbone and main tower, and a few constants."""
    towers, _, made_of_it = exported(VARIANTS.index(("din", {})))
    graph = onnx.load_from_string(made_of_it).graph
    made = [onnx.numpy_helper.to_array(one) for one in graph.initializer]
    held = np.concatenate([one.ravel() for one in made if one.dtype == np.float32])
    served = np.concatenate([one.detach().numpy().ravel() for one in parameters(towers.backbone, towers.main)])
    assert np.isin(held, served).sum() == len(served) and len(held) - len(served) < 8


@pytest.mark.long
def test_nothing_of_the_other_towers_is_in_the_graph() -> None:
    """Neither by name nor by content."""
    towers = built("token-mixer", {"auxiliary": 0.1, "mixer_layers": 3, "merge": 2, "mixer_width": 16, "tokens": 4})
    made = onnx_graph(ServedNetwork(towers, SHAPE))
    assert any(one.detach().numpy().tobytes() in made for one in parameters(towers.main))
    others = parameters(towers.aux, towers.adapted, towers.extra)
    assert len(others) > 8 and not any(one.detach().numpy().tobytes() in made for one in others)
    names = [one.name for one in onnx.load_from_string(made).graph.initializer]
    assert not any(word in name for name in names for word in ("aux", "adapted", "reader", "extra"))


def parameters(*parts: nn.Module | None) -> list[nn.Parameter]:
    return [one for part in parts if part for one in part.parameters()]


def test_the_first_layer_of_dins_unit_is_factorised() -> None:
    """Per candidate and event it multiplies by D rows, not by the 4 D of [q, k, q - k, q * k]."""
    at = next(at for at, (_, options) in enumerate(VARIANTS) if "unit" in options)
    graph = onnx.load_from_string(exported(at)[2]).graph
    shapes = {one.name: [of.dim_value for of in one.type.tensor_type.shape.dim] for one in graph.value_info}
    products = [node.input[0] for node in graph.node if node.op_type in ("MatMul", "Gemm")]
    by_event = [shapes[name] for name in products if LENGTH in shapes.get(name, [])]
    assert [0, LENGTH, WIDTH] in by_event  # events [R, L, D] by a matrix per candidate
    assert not any(shape[-1] == 4 * WIDTH for shape in by_event), by_event

"""A network begins as another one: of its size the same to the bit, larger with the same answers, smaller with the
units of the largest weights.
"""

from __future__ import annotations

import pytest
import torch
from torch import nn

from recdistill.compress.inherit import check_inheritance, inherit
from recdistill.data.batch.batch import Batch
from recdistill.errors import UserError
from recdistill.models.embeddings.growable import TableOptions
from recdistill.models.factory import named_tables
from recdistill.models.heads import Towers
from tests.compress.test_transplant import batch, learned, network
from tests.support.networks import NoWidths

OPTIONS = TableOptions(0, 0.01, "adam")
LARGER = {
    "pooled-mlp": (11, {"hidden": [15, 9], "context_width": 9}),
    "dcn-v2": (11, {"hidden": [15, 9], "context_width": 9}),
    "din": (11, {"hidden": [15, 9], "unit": [9, 7]}),
    "target-attention": (12, {"heads": 3, "hidden": [15, 9]}),
}


def answers(net: nn.Module, given: Batch) -> torch.Tensor:
    with torch.no_grad():
        return torch.as_tensor(net.eval()(given)[0])


def learned_one(kind: str, width: int = 8) -> Towers:
    net = network(kind, width)
    learned(net)
    return net


@pytest.mark.parametrize("kind", LARGER)
def test_of_one_size_it_is_the_same_to_the_bit(kind: str) -> None:
    old, new = learned_one(kind), network(kind, 8, seed=1)
    assert inherit(old, new) == sum(table.touched for table in named_tables(old).values())
    assert all(torch.equal(one, other) for one, other in zip(old.parameters(), new.parameters(), strict=True))
    assert torch.equal(answers(old, batch(0)), answers(new, batch(0)))
    moments = [table.state() for table in named_tables(new).values()]
    assert all(bool((state["steps"] == 1).all()) and not bool(state["second"].any()) for state in moments)


@pytest.mark.parametrize("kind", LARGER)
def test_a_larger_one_answers_as_before(kind: str) -> None:
    width, more = LARGER[kind]
    old, new = learned_one(kind), network(kind, width, seed=1, **more)  # type: ignore[arg-type]
    inherit(old, new)
    assert torch.allclose(answers(old, batch(0)), answers(new, batch(0)), rtol=0, atol=3e-7)  # of ids that it learned
    assert {name: table.width for name, table in named_tables(new).items()}["backbone." + _item(new)] == width


def _item(net: Towers) -> str:
    return next(name for name in named_tables(net) if name.endswith("item")).removeprefix("backbone.")


def test_a_smaller_one_has_the_units_of_the_largest_weights() -> None:
    old, new = learned_one("pooled-mlp"), network("pooled-mlp", 8, seed=1, hidden=[5, 7])
    first = old.backbone.body[0]  # type: ignore[index,union-attr]
    with torch.no_grad():
        for unit in (0, 3, 4, 8, 11):
            first.weight[unit] *= 50  # type: ignore[union-attr,operator]
    inherit(old, new)
    assert torch.equal(new.backbone.body[0].weight, first.weight[[0, 3, 4, 8, 11]])  # type: ignore[index,union-attr]


@pytest.mark.parametrize("kind", ["hstu", "transformer"])
def test_other_heads_are_another_size_where_no_shape_shows_them(kind: str) -> None:
    old, new = network(kind, 8, bias=[]), network(kind, 8, seed=1, bias=[], heads=4)
    learned(old)
    assert [value.shape for value in old.state_dict().values()] == [value.shape for value in new.state_dict().values()]
    inherit(old, new)
    name = next(name for name in old.state_dict() if name.endswith("layers.0.out.weight"))
    was, now = (net.state_dict()[name].view(8, heads, -1) for net, heads in ((old, 2), (new, 4)))
    assert now[:, :2].any() and not now[:, 2:].any()  # of each old head there are the columns that count most
    assert all(any(torch.equal(column, one) for one in was.flatten(1).T) for column in now[:, :2].flatten(1).T)


def test_other_networks_are_refused() -> None:
    with pytest.raises(UserError, match="differ in more than their widths"):
        check_inheritance(network("pooled-mlp", 8), network("din", 8))
    with pytest.raises(UserError, match="says nothing of its widths"):
        check_inheritance(NoWidths(4, tables=OPTIONS), NoWidths(6, tables=OPTIONS))
    check_inheritance(NoWidths(4, tables=OPTIONS), NoWidths(4, tables=OPTIONS))

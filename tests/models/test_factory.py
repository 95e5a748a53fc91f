"""Backbones by name: given what their constructor names, drawn from torch's generator, refused with a suggestion."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from recdistill.errors import UserError
from recdistill.models.embeddings.growable import TableOptions
from recdistill.models.factory import BACKBONES, build_backbone, dense_parameters, sparse_parameters, table_modules
from tests.support.batches import make_batch, make_net

SHAPE: dict[str, Any] = {
    "width": 8,
    "fields": 3,
    "slots": 2,
    "actions": 2,
    "length": 9,
    "tables": TableOptions(seed=3, rate=0.5),
}


@pytest.mark.parametrize("kind", BACKBONES)
def test_every_weight_has_one_name(kind: str) -> None:
    """A checkpoint's file refuses tensors that share memory."""
    weights = make_net(kind).state_dict()
    assert len({weight.data_ptr() for weight in weights.values()}) == len(weights)


@pytest.mark.parametrize("kind", BACKBONES)
def test_weights_come_from_the_seed_and_tables_from_their_options(kind: str) -> None:
    built: list[nn.Module] = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        built.append(build_backbone(kind, **SHAPE, options={}))
    weights = [nn.utils.parameters_to_vector(one.parameters()) for one in built]
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])
    assert {(table.seed, table.rate) for table in table_modules(built[0])} == {(3, 0.5)}
    assert dense_parameters(built[0]) == len(weights[0])


def test_an_unknown_kind_is_refused_with_the_nearest() -> None:
    with pytest.raises(UserError, match="'dinn' is not known; did you mean 'din'"):
        build_backbone("dinn", **SHAPE, options={})


def test_rows_count_once_they_have_learned() -> None:
    net, batch = make_net("pooled-mlp"), make_batch()
    assert sparse_parameters(net) == 0
    net(batch)[0].sum().backward()
    for table in table_modules(net):
        table.step()
    read = [one.unique for one in (batch.item, batch.history, *batch.sequences)]
    items = len(torch.cat(read).unique()) - 1  # padding does not learn
    table = next(table for table in table_modules(net) if table.name == "item")
    assert table.touched == items
    assert sparse_parameters(net) == sum(one.touched * one.width for one in table_modules(net)) > 0

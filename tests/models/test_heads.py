from __future__ import annotations

import pytest
import torch
from torch import nn

from recdistill.errors import UserError
from recdistill.models.embeddings.growable import TableOptions
from recdistill.models.factory import build_backbone, dense_parameters, sparse_parameters, table_modules
from recdistill.models.heads import Towers
from tests.support.batches import make_batch, make_net


class Own(nn.Module):
    """A module of a user's own, without an output width."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(1, 5)

    def forward(self, batch: object) -> torch.Tensor:
        return self.linear(batch.item.ids()[:, None].float())  # type: ignore[attr-defined, no-any-return]


def test_a_module_of_ones_own() -> None:
    net = Towers(Own(), 2, "decoupled", output_width=5)
    main, aux = net(make_batch())
    assert main.shape == (6, 2) and aux is not None and aux.shape == (6, 2)
    with pytest.raises(UserError, match="output_width"):
        Towers(Own(), 2)


def test_raw_and_distilled_start_alike() -> None:
    raw, distilled = make_net("din", seed=5), make_net("din", seed=5, layout="decoupled")
    assert torch.equal(raw(make_batch())[0], distilled(make_batch())[0])
    assert raw(make_batch())[1] is None


def test_the_towers_share_the_backbone_and_nothing_else() -> None:
    net = make_net("pooled-mlp", layout="decoupled")
    net(make_batch())[1].sum().backward()
    assert all(p.grad is None for p in net.main.parameters())
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in net.backbone.parameters())


def test_states_between_blocks_have_heads_for_learning_alone() -> None:
    net = make_net("token-mixer", tokens=4, mixer_width=16, mixer_layers=5, auxiliary=0.3)
    plain, batch = make_net("token-mixer", tokens=4, mixer_width=16, mixer_layers=5), make_batch()
    assert (net.auxiliary, len(net.extra), len(plain.extra)) == (0.3, 2, 0) and plain.between() == []
    assert torch.equal(net(batch)[0], plain(batch)[0])  # what is served is not another
    logits = net.between()
    assert [each.shape for each in logits] == [(6, 1)] * 2 and not torch.equal(*logits)
    logits[0].square().sum().backward()
    reached = {
        name.split(".")[2]
        for name, p in net.backbone.named_parameters()
        if name.startswith("body.layers") and p.grad is not None
    }
    assert reached == {"0", "1"}  # the first state stands behind the second block
    assert net.between() == []  # given once
    with torch.no_grad():
        net(batch)
    assert net.between() == []


def test_parameters_are_counted() -> None:
    net = make_net("target-attention", width=8)
    assert sparse_parameters(net) == 0 and dense_parameters(net) == sum(p.numel() for p in net.parameters())
    batch = make_batch()
    net(batch)[0].square().sum().backward()
    for table in table_modules(net):
        table.step()
    events = [one.unique for one in (batch.history, *batch.sequences)]
    items, past, users = len(batch.item.unique) - 1, len(torch.cat(events).unique()) - 1, len(batch.user.unique) - 1
    contexts = len(set(batch.context.unique.tolist()) | set(batch.lists.unique.tolist())) - 1
    assert sparse_parameters(net) == 8 * (items + past + users + contexts) + items


@pytest.mark.parametrize(
    ("kind", "options", "words"),
    [
        ("dinn", {}, "did you mean 'din'"),
        ("din", {"activaton": "prelu"}, "did you mean 'activation'"),
        ("din", {"activation": "tanh"}, "'sigmoid', 'prelu' or 'dice'"),
        ("din", {"fields": 3}, "not known"),
        ("hstu", {"heads": 3}, "not a multiple"),
        ("target-attention", {"heads": 3}, "not a multiple"),
    ],
)
def test_mistakes_are_named(kind: str, options: dict[str, object], words: str) -> None:
    with pytest.raises(UserError, match=words):
        build_backbone(kind, width=8, fields=1, slots=0, actions=1, length=5, tables=TableOptions(), options=options)

"""Units are scored by what belongs to them, counted one by one."""

from __future__ import annotations

import math
from functools import cache
from typing import Literal

import pytest
import torch
from torch import Tensor, nn

from recdistill.compress.importance import Importance, products_of, units_along, unread
from recdistill.compress.resizer import Resizer
from recdistill.config.models import DistillConfig, StudentConfig
from recdistill.distributed.ranks import ALONE, Ranks, gradients_of
from recdistill.errors import UserError
from recdistill.models.embeddings.growable import GrowableTable
from recdistill.models.embeddings.sharded import spread_tables
from recdistill.models.widths import Dim, NetworkWidths, into, joined, linear, out, stacked, under
from recdistill.train.learner import Learner
from tests.compress.test_transplant import KINDS, batch, network
from tests.support.batches import make_batch, make_net
from tests.support.rank_processes import met


class Small(nn.Module):
    """A table of two columns, a layer of three units that reads them, one that reads these."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.item = GrowableTable(2, seed=0, name="item", std=0.5)
        self.first, self.last = nn.Linear(2, 3), nn.Linear(3, 1)

    def widths(self) -> NetworkWidths:
        dims = under("first", linear(["hidden"], ["width"])) | under("last", linear([1], ["hidden"]))
        return NetworkWidths({"width": 2, "hidden": 3}, dims, {"item": out(["width"])})

    def forward(self, ids: Tensor) -> Tensor:
        return torch.as_tensor(self.last(torch.relu(self.first(self.item(ids)))))


def scored(measure: str, steps: int = 1) -> tuple[Small, Importance, Tensor]:
    net = Small()
    found = Importance(net, measure)  # type: ignore[arg-type]
    found.due = True
    for _ in range(steps):
        net.zero_grad()
        net.item.clear()
        loss = net(torch.tensor([0, 4, 7])).square().sum()
        products = products_of(net, loss)
        loss.backward()
        again = products_of(net)
        assert products.keys() == again.keys() and all(torch.allclose(products[k], again[k]) for k in products)
        found.update(products)
    return net, found, net.item.leaves()[-1]


def test_taylor_sums_what_belongs_to_a_unit() -> None:
    net, found, rows = scored("taylor")
    first, last, bias = net.first.weight, net.last.weight, net.first.bias
    assert first.grad is not None and last.grad is not None and bias.grad is not None and rows.grad is not None
    for unit in range(3):
        weights = [(first[unit, k], first.grad[unit, k]) for k in range(2)]
        own = [*weights, (bias[unit], bias.grad[unit]), (last[0, unit], last.grad[0, unit])]
        assert found.scores["hidden"][unit] == pytest.approx(
            0.1 * sum(abs(float((w * g).detach())) for w, g in own), rel=1e-5
        )
    for column in range(2):
        pairs = [(first[k, column], first.grad[k, column]) for k in range(3)]
        pairs += [(rows[k, column], rows.grad[k, column]) for k in range(3)]
        assert found.scores["width"][column] == pytest.approx(
            0.1 * sum(abs(float((w * g).detach())) for w, g in pairs), rel=1e-5
        )


def test_activation_is_what_linear_layers_read() -> None:
    net, found, rows = scored("activation")
    read = torch.relu(net.first(rows)).abs().mean(0)
    assert torch.allclose(found.scores["hidden"], 0.1 * read) and torch.allclose(
        found.scores["width"], 0.1 * rows.abs().mean(0)
    )


@pytest.mark.parametrize("kind", [*KINDS, "din of one layer"])
def test_activation_knows_of_all_that_linear_layers_read(kind: str) -> None:
    net = network("din", 8, unit=[5], activation="sigmoid") if kind.endswith("layer") else network(kind, 8)
    found = Importance(net, "activation")
    found.due = True
    net.train()(batch())
    found.update({})
    known = [name for name, score in found.scores.items() if score.any()]
    assert known == [name for name in found.scores if name not in unread(net)] and known


def test_magnitude_is_a_norm_and_the_largest_stay_in_their_order() -> None:
    net = Small()
    found = Importance(net, "magnitude")
    norms = net.first.weight.square().sum(1) + net.first.bias.square() + net.last.weight.square()[0]
    kept = found.kept({"hidden": 2, "width": 2})
    assert kept["hidden"].tolist() == sorted(norms.topk(2).indices.tolist()) and kept["width"].tolist() == [0, 1]


def test_smoothed_over_steps() -> None:
    one, three = scored("taylor")[1].scores["hidden"], scored("taylor", steps=3)[1].scores["hidden"]
    assert torch.allclose(three, one * (1 + 0.9 + 0.81))


def test_a_width_that_was_never_measured_is_refused() -> None:
    with pytest.raises(UserError, match="importance taylor knows nothing of hidden"):
        Importance(Small(), "taylor").kept({"hidden": 2, "width": 2})


def test_units_of_a_product() -> None:
    dim = Dim(((2,), ("heads", 3, "width"), ("width",)))
    sizes = {"heads": 2, "width": 2}
    assert units_along(dim, sizes, "width").tolist() == [-1, -1, *[0, 1] * 6, 0, 1]
    assert units_along(into(["heads", "width"]), sizes, "heads").tolist() == [0, 1, -1, -1]


def test_a_layer_counts_as_all_that_is_in_it() -> None:
    net = Deep(3)
    found = Importance(net, "taylor")
    loss = net(torch.randn(5, 2, generator=torch.Generator().manual_seed(1))).square().sum()
    products = products_of(net, loss)
    found.update(products)
    own = [products[f"layers.{at}.weight"].sum() + products[f"layers.{at}.bias"].sum() for at in range(3)]
    assert torch.allclose(found.scores["layers"], 0.1 * torch.stack(own))
    assert found.kept({"layers": 1})["layers"].tolist() == [int(torch.stack(own).argmax())]
    norms = [sum(p.detach().square().sum() for p in layer.parameters()) for layer in net.layers]
    least = min(range(3), key=lambda at: float(norms[at]))
    assert least not in Importance(net, "magnitude").kept({"layers": 2})["layers"].tolist()
    with pytest.raises(UserError, match="importance activation knows nothing of layers"):
        Importance(net, "activation").kept({"layers": 1})


class Deep(nn.Module):
    """Layers of two units, each added to what it reads."""

    def __init__(self, count: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.ModuleList(nn.Linear(2, 2) for _ in range(count))

    def widths(self) -> NetworkWidths:
        layer = NetworkWidths({}, linear([2], [2]), outputs=((2,),))
        layers = {str(at): layer for at in range(len(self.layers))}
        return joined({"layers": stacked("layers", layers, ("weight", "bias"))}, ((2,),))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = x + torch.tanh(layer(x))
        return x


def test_a_table_without_rows_counts_nothing() -> None:
    net = Small()
    found = Importance(net, "magnitude").kept({"width": 1, "hidden": 3})
    assert found["width"].tolist() == [int(net.first.weight.detach().square().sum(0).argmax())]


def scores(of: str, distill: DistillConfig, signal: float) -> Tensor:
    """Return what the units of a student's first layer count after one step from signals that are all alike."""
    config = StudentConfig(kind="pooled-mlp", width=4, prune={"from": {"width": 8}, "of": of})  # type: ignore[arg-type]
    net = make_net("pooled-mlp", layout=distill.towers, hidden=[6])
    learner, batch = Learner(net, config, distill), make_batch()
    learner.resizer = Resizer(config, 0, 8, lambda *_: net, torch.device("cpu"), net)
    batch.signals.fill_(signal)
    learner.learn(batch, torch.ones(len(batch), dtype=torch.bool))
    return learner.resizer.importance.scores["hidden.0"]


@pytest.mark.parametrize("towers", ["single", "decoupled"])
def test_of_labels_leaves_the_distillation_out_and_of_loss_counts_both(towers: Literal["single", "decoupled"]) -> None:
    distill = DistillConfig(weight=2.0, towers=towers)
    labels = scores("loss", distill, math.nan)  # without signals there is no distillation
    assert bool(labels.all())
    for signal in (-3.0, 2.0):
        assert torch.allclose(scores("labels", distill, signal), labels, rtol=1e-5)
        assert not torch.allclose(scores("loss", distill, signal), labels, rtol=0.1)
    assert not torch.allclose(scores("loss", distill, -3.0), scores("loss", distill, 2.0), rtol=0.1)


SAMPLES, PULLS = torch.tensor([4, 9, 9, 7, 12]), torch.tensor([1.0, -2.0, 1.0, 1.0, 1.0])  # of two ranks both have 9
MEASURES = ("taylor", "activation", "magnitude")


def measured(ranks: Ranks) -> dict[str, dict[str, list[float]]]:
    """Return by measure the scores of a step's samples, of which this rank has its part, by the width; of the rows
    learned then, for magnitude.
    """
    unique, place = torch.unique(torch.cat([torch.zeros(1).long(), SAMPLES[ranks.part(5)]]), return_inverse=True)
    found = {}
    for measure in MEASURES:
        net = Small()
        spread_tables(net, ranks)
        scores = Importance(net, measure, ranks)  # type: ignore[arg-type]
        scores.due = True
        rows = net.item(unique)[place[1:]]
        loss = (net.last(torch.relu(net.first(rows)))[:, 0] * PULLS[ranks.part(5)]).sum()
        by_loss = products_of(net, loss, ranks)
        torch.autograd.backward(loss)
        ranks.sum_in_place(gradients_of(net))
        products = products_of(net, ranks=ranks)
        assert all(torch.allclose(by_loss[name], products[name]) for name in by_loss)
        scores.update(products)
        net.item.step()
        of_weights = scores._by_magnitude() if measure == "magnitude" else scores.scores
        found[measure] = {name: value.tolist() for name, value in of_weights.items()}
    return found


@cache
def by_ranks() -> list[dict[str, dict[str, list[float]]]]:
    return met(2, measured)


@pytest.mark.parametrize("measure", MEASURES)
def test_two_ranks_score_what_one_process_does(measure: str) -> None:
    whole = measured(ALONE)[measure]
    for found in by_ranks():
        for name, scores in whole.items():
            assert found[measure][name] == pytest.approx(scores, rel=1e-5) and max(scores) > 0

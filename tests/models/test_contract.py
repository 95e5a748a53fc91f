"""check_model: every network of ours passes, and each promise can be broken."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import recdistill as rd
from recdistill.models.factory import BACKBONES


@pytest.mark.parametrize("kind", BACKBONES)
def test_ours_keep_it(kind: str) -> None:
    rd.check_model(kind)


class Good(nn.Module):
    output_width = 4

    def __init__(self, width: int = 8, *, tables: rd.TableOptions) -> None:
        super().__init__()
        self.item = rd.GrowableTable(width, seed=tables.seed, name="item", std=0.5)
        self.body = nn.Linear(2 * width, 4)

    def forward(self, batch: rd.Batch) -> Tensor:
        item = self.item(batch.item.unique)[batch.item.inverse]
        return self.body(torch.cat([item, self.past(batch)], 1))

    def past(self, batch: rd.Batch) -> Tensor:
        index, _, _, mask = batch.history.dense()
        return (self.item(batch.history.unique)[index].sum(1) / mask.sum(1, keepdim=True).clamp(min=1))[
            batch.history.of
        ]


class NoWidth(Good):
    output_width = None


class WrongShape(Good):
    output_width = 5


class NotANumber(Good):
    def past(self, batch: rd.Batch) -> Tensor:
        index, _, _, mask = batch.history.dense()
        return (self.item(batch.history.unique)[index].sum(1) / mask.sum(1, keepdim=True))[batch.history.of]


class LooksAtNeighbours(Good):
    def forward(self, batch: rd.Batch) -> Tensor:
        return super().forward(batch) - super().forward(batch).mean(0)


class LooksAtPlaces(Good):
    def forward(self, batch: rd.Batch) -> Tensor:
        return super().forward(batch) * torch.arange(1, len(batch) + 1)[:, None]


class CountsPadding(Good):
    def past(self, batch: rd.Batch) -> Tensor:
        return self.item(batch.history.unique)[batch.history.dense()[0]].mean(1)[batch.history.of]


class DeadWeight(Good):
    def __init__(self, width: int = 8, *, tables: rd.TableOptions) -> None:
        super().__init__(width, tables=tables)
        self.unused = nn.Linear(2, 2)


class OwnSeed(Good):
    def __init__(self, width: int = 8, *, tables: rd.TableOptions) -> None:
        super().__init__(width, tables=tables)
        nn.init.normal_(self.body.weight, generator=torch.Generator().manual_seed(torch.seed() % 1000 + id(self) % 97))


class Raises(Good):
    def forward(self, batch: rd.Batch) -> Tensor:
        raise KeyError("nothing here")


@pytest.mark.parametrize(
    ("network", "problem"),
    [
        (NoWidth, "unknown output width"),
        (WrongShape, r"must return \[B, output_width\], here \(6, 5\); got \(6, 4\)"),
        (NotANumber, "finite"),
        (LooksAtPlaces, "when the batch's order changes"),
        (LooksAtNeighbours, "when its neighbours in the batch change"),
        (CountsPadding, "mask the padding"),
        (DeadWeight, "weight unused.weight gets no gradient"),
        (OwnSeed, "starts with other weights each time"),
        (Raises, "A batch of six samples: KeyError"),
    ],
)
def test_each_promise_can_be_broken(network: type[nn.Module], problem: str) -> None:
    rd.check_model(Good)
    with pytest.raises(rd.UserError, match=problem):
        rd.check_model(network)


@pytest.mark.parametrize(
    ("kind", "problem"),
    [
        ("no_such_package.models:MyNet", "no module 'no_such_package' in .* or among the installed packages"),
        ("recdistill.errors:UserError", "UserError is no torch.nn.Module class"),
        ("recdistill.models.backbones.din:DON", "has no 'DON'; did you mean 'DIN'"),
        ("dim", "is not known; did you mean 'din'"),
    ],
)
def test_a_kind_that_cannot_be_had(kind: str, problem: str) -> None:
    with pytest.raises(rd.UserError, match=problem):
        rd.check_model(kind)


def test_options_are_held_against_the_signature() -> None:
    with pytest.raises(rd.UserError, match="option 'depth' is not known"):
        rd.check_model(Good, depth=3)

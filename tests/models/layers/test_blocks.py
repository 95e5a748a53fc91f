"""Small dense parts: widths, Dice, the mean of list features, actions of events."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from recdistill.data.batch.extras import NO_EXTRAS
from recdistill.errors import UserError
from recdistill.models.embeddings.growable import TableOptions
from recdistill.models.layers.blocks import MLP, Dice, EventActions, SideFeatures, width_of
from tests.support.batches import FIELDS, SLOTS, make_batch


def test_a_width_is_given_or_the_modules_own() -> None:
    assert width_of(MLP(3, (5, 4))) == 4 and width_of(MLP(3, ())) == 3 and width_of(nn.Linear(2, 2), 7) == 7
    with pytest.raises(UserError, match="Linear: unknown output width"):
        width_of(nn.Linear(2, 2))


def test_dice_normalises_over_what_the_mask_keeps() -> None:
    torch.manual_seed(0)
    dice, x = Dice(3), torch.randn(40, 3) * 2 + 5
    with torch.no_grad():
        dice.slope.fill_(0.25)
    mask = torch.arange(40) < 25
    kept = x[:25]
    p = torch.sigmoid((x - kept.mean(0)) / (kept.var(0, correction=0) + 1e-8).sqrt())
    torch.testing.assert_close(dice(x, mask), p * x + (1 - p) * 0.25 * x)
    torch.testing.assert_close(dice.get_buffer("mean"), 0.01 * kept.mean(0))
    dice.eval()
    shifted = torch.sigmoid((x - dice.get_buffer("mean")) / (dice.get_buffer("variance") + 1e-8).sqrt())
    torch.testing.assert_close(dice(x, mask), shifted * x + (1 - shifted) * 0.25 * x)


def test_list_features_are_the_mean_of_the_known_slots() -> None:
    batch, side = make_batch(), SideFeatures(4, 5, FIELDS, SLOTS, TableOptions(), NO_EXTRAS)
    with torch.no_grad():
        lists = side(batch)[2]
    for row, slots in zip(lists, batch.lists.unique[batch.lists.inverse], strict=True):
        known = slots[slots != 0]
        expected = side.context.peek(known).mean(0) if len(known) else torch.zeros(5)
        torch.testing.assert_close(row, expected)


def test_an_action_adds_its_vector_and_padding_stays_zero() -> None:
    actions = EventActions(3, 2)
    assert actions.vectors is not None
    with torch.no_grad():
        actions.vectors.copy_(torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]))
    mask = torch.tensor([[True, True, False]])
    out = actions.add(torch.zeros(1, 3, 2), torch.tensor([[2, 0, 1]]), mask)
    assert out[0].tolist() == [[5.0, 6.0], [1.0, 2.0], [0.0, 0.0]]
    assert EventActions(1, 2).vectors is None

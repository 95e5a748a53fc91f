"""GPSD (2506.03699), stage 1, and the public code of its authors, state by state: the loss of the next item, a sampled
softmax over cosines / temperature in which a drawn item that is the target is left out; and that of its category, a
softmax over the cosines with all categories.
"""

from __future__ import annotations

import numpy as np
import torch

from recdistill.train.pretrain import category_loss, next_item_loss
from recdistill.typing import Array

D, ITEMS, CATEGORIES, TEMPERATURE = 4, 7, 3, 0.05
DRAW = np.random.default_rng(1)
STATES = DRAW.normal(size=(5, D))


def cosines(state: Array, rows: Array) -> Array:
    return (rows @ state) / np.linalg.norm(rows, axis=1) / np.linalg.norm(state) / TEMPERATURE


def nats(scores: Array, target: float) -> float:
    return float(np.log(np.exp(scores).sum()) - target)


def test_the_next_item() -> None:
    rows, drawn, target = DRAW.normal(size=(ITEMS, D)), np.array([2, 5, 5, 1]), np.array([3, 5, 1, 2, 0])
    found = next_item_loss(*(torch.from_numpy(one) for one in (STATES, rows, target, drawn)), TEMPERATURE)
    expected = []
    for state, right in zip(STATES, target, strict=True):
        scores = cosines(state, rows)
        expected.append(nats(scores[[right, *drawn[drawn != right]]], scores[right]))
    np.testing.assert_allclose(found.item(), np.mean(expected), rtol=1e-9)


def test_its_category() -> None:
    """Categories count from 1; an item whose category is not known, 0, does not count."""
    rows, target = DRAW.normal(size=(1 + CATEGORIES, D)), np.array([2, 0, 1, 3, 0])
    found = category_loss(*(torch.from_numpy(one) for one in (STATES, rows, target)), TEMPERATURE)
    scores = [(cosines(state, rows[1:]), of - 1) for state, of in zip(STATES, target, strict=True) if of]
    np.testing.assert_allclose(found.item(), np.mean([nats(one, one[at]) for one, at in scores]), rtol=1e-9)


def test_no_category_is_no_loss() -> None:
    states, rows = torch.from_numpy(STATES), torch.randn(3, D).double()
    assert category_loss(states, rows, torch.zeros(5).long(), TEMPERATURE).item() == 0

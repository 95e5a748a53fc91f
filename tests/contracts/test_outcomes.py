"""Every backbone can tell a user who mostly acts from one who rarely does, by the outcomes of the history alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional

from recdistill.data.batch.ages import SECOND
from recdistill.data.batch.batch import Batch, History, Lookup
from recdistill.data.batch.extras import NO_EXTRAS
from recdistill.data.batch.numbers import NUMBERS
from recdistill.models.factory import BACKBONES, table_modules
from recdistill.models.heads import Towers
from tests.support.batches import FIELDS, LENGTH, SLOTS, lookup, make_net
from tests.support.sweeps import swept

SAMPLES, STEPS, ITEMS = 128, 250, 20
OPTIONS = {"longer": {"merge": 2}, "token-mixer": {"merge": 2, "tokens": 4, "mixer_width": 16}}


def batch_of(seed: int) -> tuple[Batch, torch.Tensor]:
    """New users with rates of their own, uniform in [0, 1], items without meaning: up to LENGTH outcomes each, and one
    more to predict; and what is best predicted of it (Laplace's rule), [B].
    """
    draw = np.random.default_rng(seed)
    rate, counts = draw.random(SAMPLES), draw.integers(0, LENGTH + 1, SAMPLES)
    owner, past = np.repeat(np.arange(SAMPLES), counts), lookup(draw.integers(1, ITEMS, counts.sum()))
    action = (draw.random(len(owner)) < rate[owner]).astype(np.int64)
    ago = draw.integers(SECOND, 10**6 * SECOND, len(owner))
    ago = ago[np.lexsort((-ago, owner))]
    history = History(
        past.unique,
        past.inverse,
        torch.from_numpy(ago),
        torch.from_numpy(action),
        torch.from_numpy(np.concatenate([[0], np.cumsum(counts)])),
        torch.arange(SAMPLES),
    )
    padding = torch.zeros(1, dtype=torch.int64)
    none = [Lookup(padding, torch.zeros(SAMPLES, n, dtype=torch.int64)) for n in (FIELDS, SLOTS)]
    labels = torch.from_numpy((draw.random((SAMPLES, 1)) < rate[:, None]).astype(np.float32))
    user, item = Lookup(padding, torch.zeros(SAMPLES, dtype=torch.int64)), lookup(draw.integers(1, ITEMS, SAMPLES))
    missing = torch.full((SAMPLES, 1), float("nan"))
    best = (np.bincount(owner, action, SAMPLES) + 1) / (counts + 2)
    return Batch(
        torch.arange(SAMPLES), item, user, *none, history, torch.zeros(SAMPLES, NUMBERS), labels, missing
    ), torch.from_numpy(best)


def learned(net: Towers) -> float:
    """Return by how much a net's log loss of new users is above the best, after some steps."""
    optimiser = torch.optim.Adam(net.parameters(), lr=5e-3)
    for step in range(STEPS):
        optimiser.zero_grad()
        batch, _ = batch_of(step)
        functional.binary_cross_entropy_with_logits(net(batch)[0], batch.labels).backward()
        optimiser.step()
        for table in table_modules(net):
            table.step()
    net.eval()
    above = []
    for seed in range(1000, 1020):
        batch, best = batch_of(seed)
        with torch.no_grad():
            loss = functional.binary_cross_entropy_with_logits(net(batch)[0], batch.labels)
        above.append(float(loss - functional.binary_cross_entropy(best.float(), batch.labels[:, 0])))
    return float(np.mean(above))


@pytest.mark.parametrize("kind", swept([*BACKBONES], quick=3))
def test_a_rate_of_outcomes_is_learned(kind: str) -> None:
    """A coin's loss is 0.1 above the best."""
    assert learned(make_net(kind, extras=NO_EXTRAS, **OPTIONS.get(kind, {}))) < 0.02

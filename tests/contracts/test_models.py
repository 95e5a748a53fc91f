"""What every backbone promises. A new one is tested by being listed in CASES."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.nn import functional

from recdistill.data.batch.batch import Batch
from recdistill.models.examples import with_longer_neighbour
from recdistill.models.factory import BACKBONES, table_modules
from recdistill.models.heads import Towers
from tests.support.batches import EXTRAS, lookup, make_batch, make_net, repeat_histories, take

CASES = {
    "pooled-mlp": ("pooled-mlp", {}),
    "dcn-v2": ("dcn-v2", {}),
    "din": ("din", {}),
    "din-deep-prelu": ("din", {"unit": [8, 4], "activation": "prelu"}),
    "din-dice": ("din", {"activation": "dice"}),
    "target-attention": ("target-attention", {}),
    "target-attention-rich": ("target-attention", {"rich": True, "heads": 2, "kernels": 3}),
    "hstu": ("hstu", {"heads": 2}),
    "hstu-semi-local": ("hstu", {"heads": 2, "layers": 3, "band": 3, "columns": 2}),
    "hstu-truncated": ("hstu", {"layers": 2, "newest_layers": 2, "newest": 4, "recompute": True, "bias": ["time"]}),
    "hstu-contextual": ("hstu", {"contextual": True, "key_width": 3, "value_width": 5, "heads": 3, "band": 4}),
    "hstu-transducers": ("hstu", {"transducers": [[0], [1]]}),
    "sasrec": ("transformer", {"block": "sasrec", "residual": "post", "heads": 2}),
    "llama-with-bias": ("transformer", {"block": "llama", "bias": ["position", "time"], "layers": 3, "band": 5}),
    "longer": ("longer", {"merge": 2, "queries": 3, "layers": 2, "heads": 2}),
    "token-mixer": ("token-mixer", {"tokens": 4, "mixer_width": 16, "mixer_layers": 3, "merge": 2, "queries": 2}),
    "token-mixer-sparse": ("token-mixer", {"tokens": 4, "mixer_width": 16, "experts": 3, "active": 2, "merge": 2}),
    "token-mixer-grouped": ("token-mixer", {"tokens": 4, "mixer_width": 16, "grouping": "semantic", "merge": 2}),
    "token-mixer-input": ("token-mixer", {"tokens": 4, "mixer_width": 16, "residual": "input", "merge": 2}),
    "rankmixer-experts": (
        "token-mixer",
        {"tokens": 4, "mixer_width": 16, "variant": "rankmixer", "experts": 3, "merge": 3},
    ),
    "rankmixer": ("token-mixer", {"tokens": 4, "mixer_width": 16, "variant": "rankmixer", "merge": 3}),
}


POOLED = {"pooled-mlp", "dcn-v2", "din", "din-deep-prelu", "din-dice"}  # as published: a history is a bag of events
TIMELESS, ORDERLESS = POOLED | {"sasrec"}, POOLED


@pytest.fixture(params=CASES)
def net(request: pytest.FixtureRequest) -> Towers:
    """A net some steps old, in training mode, so that no part of it is still zero."""
    kind, options = CASES[request.param]
    return grown(make_net(kind, **options))


def grown(net: Towers) -> Towers:
    optimiser = torch.optim.Adam(net.parameters(), lr=0.02)
    for step in range(3):
        learn(net, optimiser, make_batch(seed=step))
    return net


def learn(net: Towers, optimiser: torch.optim.Optimizer, batch: Batch) -> None:
    optimiser.zero_grad()
    functional.binary_cross_entropy_with_logits(net(batch)[0], batch.labels).backward()
    optimiser.step()
    for table in table_modules(net):
        table.step()


def predict(net: Towers, batch: Batch) -> torch.Tensor:
    with torch.no_grad():
        return net(batch)[0]


def same(a: torch.Tensor, b: torch.Tensor) -> None:
    torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


def test_every_backbone_is_listed() -> None:
    assert {kind for kind, _ in CASES.values()} == set(BACKBONES)


def test_what_is_known_of_outcomes_reaches_its_own_sample_alone(net: Towers) -> None:
    net.eval()
    batch = make_batch()
    for number in range(batch.numbers.shape[1]):
        numbers = batch.numbers.clone()
        numbers[2, number] += 1
        moved = (predict(net, replace(batch, numbers=numbers)) - predict(net, batch)).abs()[:, 0] > 1e-6
        assert moved.tolist() == [False, False, True, False, False, False]


@pytest.mark.parametrize("side", [side for side, _ in EXTRAS.vectors])
def test_a_pre_trained_vector_reaches_its_own_samples_alone(side: str, net: Towers) -> None:
    net.eval()
    batch, order = make_batch(), torch.tensor([4, 0, 5, 2, 1, 3])
    one = batch.vectors[side]
    values = one.values.clone()
    values[one.inverse[2]] += 1
    moved = replace(batch, vectors={**batch.vectors, side: replace(one, values=values)})
    differs = (predict(net, moved) - predict(net, batch)).abs()[:, 0] > 1e-7
    assert differs.tolist() == (one.inverse == one.inverse[2]).tolist()
    same(predict(net, take(moved, order)), predict(net, moved)[order])


def test_shape_and_finite(net: Towers) -> None:
    batch = make_batch()
    assert net.backbone(batch).shape == (len(batch), net.backbone.output_width)
    logits = predict(net, batch)
    assert logits.shape == (6, 1) and logits.isfinite().all() and logits.std() > 0


def test_no_history_at_all(net: Towers) -> None:
    batch = make_batch((2, 1), (0, 0))
    logits = net(batch)[0]
    logits.sum().backward()
    assert logits.isfinite().all()
    assert all(p.grad is None or p.grad.isfinite().all() for p in net.parameters())


def test_history_matters(net: Towers) -> None:
    net.eval()
    batch = make_batch()
    shuffled = replace(batch.history, index=batch.history.index.flip(0))
    other = predict(net, replace(batch, history=shuffled))
    assert not torch.allclose(other[:3], predict(net, batch)[:3], atol=1e-6)
    same(other[3], predict(net, batch)[3])  # the one without history


def test_times_matter(request: pytest.FixtureRequest, net: Towers) -> None:
    """To every model that reads a history as a sequence of events in time."""
    net.eval()
    batch = make_batch()
    older = replace(batch, history=replace(batch.history, ago=batch.history.ago * 5 + 9_000_000))
    moved = not torch.allclose(predict(net, older)[:3], predict(net, batch)[:3], atol=1e-7, rtol=1e-6)
    assert moved == (request.node.callspec.params["net"] not in TIMELESS)
    same(predict(net, older)[3], predict(net, batch)[3])


def test_the_order_of_the_oldest_events_matters(request: pytest.FixtureRequest, net: Towers) -> None:
    net.eval()
    batch = make_batch((1,), (9,))
    order = torch.tensor([5, 4, 3, 2, 1, 0, 6, 7, 8])
    index, action = batch.history.index[order], batch.history.action[order]
    other = predict(net, replace(batch, history=replace(batch.history, index=index, action=action)))
    moved = not torch.allclose(other, predict(net, batch), atol=1e-7, rtol=1e-6)
    assert moved == (request.node.callspec.params["net"] not in ORDERLESS)


def test_sample_order(net: Towers) -> None:
    batch, order = make_batch(), torch.tensor([4, 0, 5, 2, 1, 3])
    same(predict(net, take(batch, order)), predict(net, batch)[order])


def test_a_sample_does_not_see_its_neighbours(net: Towers) -> None:
    net.eval()
    batch = make_batch()
    same(predict(net, take(batch, torch.tensor([4]))), predict(net, batch)[4:5])


def test_padding(net: Towers) -> None:
    """A longer history elsewhere in the batch changes nothing here."""
    net.eval()
    short, other = with_longer_neighbour()
    same(predict(net, other)[:3], predict(net, short)[:3])


def test_shared_and_repeated_histories(net: Towers) -> None:
    net.eval()
    batch = make_batch()
    same(predict(net, repeat_histories(batch)), predict(net, batch))


def test_shared_and_repeated_histories_learn_alike(net: Towers) -> None:
    net.eval()
    gradients = []
    for batch in (make_batch(), repeat_histories(make_batch())):
        net.zero_grad()
        net(batch)[0].square().sum().backward()
        gradients.append([p.grad.clone() for p in net.parameters() if p.grad is not None])
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_one_request_far_larger_than_the_others(net: Towers) -> None:
    net.eval()
    batch = make_batch((11, 1, 1, 1, 1), (5, 3, 0, 2, 4))
    same(predict(net, repeat_histories(batch)), predict(net, batch))


def test_gradients_reach_every_table_and_weight(net: Towers) -> None:
    batch = make_batch()
    net.zero_grad()
    net(batch)[0].square().sum().backward()
    for table in table_modules(net):
        assert table.gradients() and all(g.isfinite().all() for g in table.gradients())
        assert any(g[1:].abs().sum() > 0 for g in table.gradients()), table.name
        table.clear()
    dead = [name for name, p in net.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert not dead


def test_padding_never_learns(net: Towers) -> None:
    for table in table_modules(net):
        assert not table(torch.zeros(1, dtype=torch.int64)).any()


@pytest.mark.parametrize("case", CASES)
def test_deterministic(case: str) -> None:
    kind, options = CASES[case]
    nets = [make_net(kind, seed=3, **options) for _ in range(2)]
    for net in nets:
        optimiser = torch.optim.Adam(net.parameters(), lr=0.02)
        for step in range(3):
            learn(net, optimiser, make_batch(seed=step))
    assert torch.equal(*(predict(net, make_batch(seed=9)) for net in nets))


@pytest.mark.parametrize("case", CASES)
def test_resumes_bit_for_bit(case: str) -> None:
    kind, options = CASES[case]
    net, other = make_net(kind, seed=3, **options), make_net(kind, seed=4, **options)
    for each in (net, other):
        learn(each, torch.optim.SGD(each.parameters(), lr=0.1), make_batch(seed=1))
    other.load_state_dict(net.state_dict())
    for mine, theirs in zip(table_modules(net), table_modules(other), strict=True):
        theirs.seed = mine.seed
        theirs.load_state(mine.state())
    for each in (net, other):
        learn(each, torch.optim.SGD(each.parameters(), lr=0.1), make_batch(seed=2))
    assert torch.equal(predict(net, make_batch(seed=5)), predict(other, make_batch(seed=5)))


def test_new_ids_cost_nothing_until_learned(net: Towers) -> None:
    before = [table.touched for table in table_modules(net)]
    batch = make_batch()
    unseen = replace(batch, item=lookup(batch.item.ids().numpy() + 50_000))
    assert predict(net, unseen).isfinite().all()
    assert [table.touched for table in table_modules(net)] == before
    assert all(len(table.state()["rows"]) == rows for table, rows in zip(table_modules(net), before, strict=True))

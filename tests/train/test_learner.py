"""A loss or gradient that is not finite stops the step before anything was updated, and names the samples."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from recdistill.config.models import AdapterConfig, DistillConfig, StudentConfig, TeacherConfig
from recdistill.distill.debias import KeepRates
from recdistill.distill.losses import label_loss
from recdistill.errors import RecdistillError, UserError
from recdistill.models.heads import Towers
from recdistill.train.learner import Learner
from recdistill.train.trainer import Trainer
from tests.support.batches import make_batch, make_net
from tests.support.runs import ingested, same_bits, tiny, trainer


@pytest.fixture
def ready(tmp_path: Path) -> Trainer:
    """Return a teacher's trainer that has taken two steps."""
    ingested(tmp_path, tiny())
    found = trainer(tmp_path, tiny(), "teacher")
    for low in (0, 50):
        found.learner.learn(found.builder.build(np.arange(low, low + 50)), torch.ones(50, dtype=torch.bool))
    return found


def spoil_weight(learner: Learner) -> None:
    """Make the loss infinite or NaN."""
    with torch.no_grad():
        next(learner.network.parameters()).fill_(float("inf"))


def spoil_gradient(learner: Learner) -> None:
    """Leave the loss as it is and make one gradient NaN."""
    next(learner.network.parameters()).register_hook(lambda gradient: gradient * float("nan"))


def spoil_rows(learner: Learner) -> None:
    """Leave loss and dense gradients as they are and make the gradient of one embedding's rows infinite."""
    forward = learner.tables[0].forward

    def spoiled(unique: torch.Tensor) -> torch.Tensor:
        rows = forward(unique)
        rows.register_hook(lambda gradient: gradient / 0)
        return rows

    learner.tables[0].forward = spoiled  # type: ignore[method-assign]


@pytest.mark.parametrize("spoil", [spoil_weight, spoil_gradient, spoil_rows])
def test_nothing_is_updated_and_samples_are_named(ready: Trainer, spoil: object) -> None:
    batch, keep = ready.builder.build(np.arange(100, 150)), torch.ones(50, dtype=torch.bool)
    spoil(ready.learner)  # type: ignore[operator]
    before = {name: value.clone() for name, value in ready.learner.state()[0].items()}
    with pytest.raises(RecdistillError, match="step 2: loss or gradient is not finite .*nothing was updated") as caught:
        ready.learner.learn(batch, keep)
    assert str(batch.sample_id[:5].tolist()) in str(caught.value) and "\n" not in str(caught.value)
    assert same_bits(before, ready.learner.state()[0]) and ready.learner.steps == 2


def test_the_run_stops_there_and_keeps_its_last_checkpoint(ready: Trainer) -> None:
    for at in ready.run_to_end():
        if at.done and ready.checkpoints.newest() == 0:
            break
    spoil_gradient(ready.learner)
    with pytest.raises(RecdistillError, match="not finite"):
        list(ready.run_to_end())
    assert ready.checkpoints.newest() == 0
    assert sum(len(rows) for rows in ready.predictions.of("teacher", columns=["sample_id"])) == 200


def test_a_checkpoint_of_networks_that_meant_something_else_is_refused(ready: Trainer) -> None:
    tensors, state = ready.learner.state()
    ready.learner.restore(tensors, state)
    del state["revision"]  # as the first ones were
    with pytest.raises(UserError, match="a checkpoint of revision 1 of the networks, of which this is 6"):
        ready.learner.restore(tensors, state)


def test_a_prediction_is_recorded_without_the_dropout_that_is_learned_through() -> None:
    network, batch = make_net("hstu", dropout=0.5), make_batch()
    learner = Learner(network, TeacherConfig())
    everyone = torch.ones(len(batch), dtype=torch.bool)
    for _ in range(3):
        expected = learner.predict(batch)
        assert torch.equal(learner.learn(batch, everyone).logits, expected)
    assert not torch.equal(network(batch)[0], network(batch)[0])


def test_relu_experts_predict_by_the_router_that_serves_and_learn_to_be_few() -> None:
    options = {"variant": "rankmixer", "tokens": 4, "mixer_width": 8, "experts": 4, "active": 1}
    network, batch = make_net("token-mixer", **options), make_batch()
    learner, everyone = Learner(network, TeacherConfig(dense_rate=0.01)), torch.ones(len(batch), dtype=torch.bool)
    (part, _) = network.routed
    before = part.training_router.clone()

    def share() -> float:
        network.eval()
        seen: list[torch.Tensor] = []
        handle = part.register_forward_hook(lambda one, given, _: seen.append(torch.bmm(given[0], one.router) > 0))
        learner.predict(batch)
        handle.remove()
        network.train()
        return float(seen[0].float().mean())

    assert share() > 0.35
    for _ in range(300):
        expected = learner.predict(batch)
        assert torch.equal(learner.learn(batch, everyone).logits, expected)
    assert 0.05 < share() < 0.35 and not torch.equal(part.training_router, before)
    assert network.penalty() == 0  # given once


def test_the_adapter_takes_logits_corrected_for_sampling(monkeypatch: pytest.MonkeyPatch) -> None:
    distill = DistillConfig(adapter=AdapterConfig())
    torch.manual_seed(0)
    network = Towers(make_net("din").backbone, 1, "decoupled", adapted=True)
    learner = Learner(network, StudentConfig(), distill, [KeepRates(1.0, 0.5)], [KeepRates(1.0, 0.1)])
    given: list[torch.Tensor] = []
    monkeypatch.setattr(learner.adapter, "learn", lambda signals, *more: (given.append(signals), signals)[1])
    batch = replace(make_batch(), signals=torch.full((6, 1), 2.0))
    learner.learn(batch, torch.ones(6, dtype=torch.bool))
    torch.testing.assert_close(given[0], torch.full((6, 1), 2.0 - math.log(10) + math.log(2)))


def test_states_between_blocks_hear_the_labels_too() -> None:
    """One step with `auxiliary` is a step on the sum of the losses: heads move, and what is said before it
    does not change.
    """
    said, moved = [], []
    for weight in (0.0, 0.5):
        options: dict[str, Any] = {"tokens": 4, "mixer_width": 16, "mixer_layers": 3, "auxiliary": weight}
        network, batch = make_net("token-mixer", **options), make_batch()
        learner = Learner(network, TeacherConfig())
        before = [head.weight.detach().clone() for head in network.extra]  # type: ignore[union-attr]
        said.append(learner.learn(batch, torch.ones(len(batch), dtype=torch.bool)).logits)
        # type: ignore[union-attr]
        moved.append([not torch.equal(one, head.weight) for one, head in zip(before, network.extra, strict=True)])
    assert torch.equal(*said) and moved == [[], [True]]
    network, batch = make_net("token-mixer", tokens=4, mixer_width=16, mixer_layers=3, auxiliary=0.5), make_batch()
    main, _ = network.heads(network.shared(batch))
    (between,) = network.between()
    loss = label_loss(main, batch.labels) + 0.5 * label_loss(between, batch.labels)
    loss.backward()
    expected = {name: p.grad.clone() for name, p in network.named_parameters() if p.grad is not None}
    network = make_net("token-mixer", tokens=4, mixer_width=16, mixer_layers=3, auxiliary=0.5)
    learner = Learner(network, TeacherConfig())
    learner.learn(batch, torch.ones(len(batch), dtype=torch.bool))
    for name, p in network.named_parameters():
        torch.testing.assert_close(p.grad, expected.get(name))


def steps_of(tmp_path: Path, *assignments: str) -> list[float]:
    """Return how far the dense part moves in each of three steps."""
    ingested(tmp_path, tiny())
    found = trainer(tmp_path, tiny(*assignments), "teacher")
    moved = []
    for low in (0, 50, 100):
        before = [value.detach().clone() for value in found.learner.network.parameters()]
        found.learner.learn(found.builder.build(np.arange(low, low + 50)), torch.ones(50, dtype=torch.bool))
        pairs = zip(before, found.learner.network.parameters(), strict=True)
        moved.append(max(float((old - new.detach()).abs().max()) for old, new in pairs))
    return moved


def test_the_dense_rate_rises_to_its_height(tmp_path: Path) -> None:
    rate = tiny().teacher.dense_rate
    assert steps_of(tmp_path)[0] == pytest.approx(rate, rel=1e-3)  # Adam's first step is as long as its rate
    slow = steps_of(tmp_path, "teacher.dense_warmup=4")
    assert slow[0] == pytest.approx(rate / 4, rel=1e-3) and slow[0] < slow[1] < slow[2] < rate


def test_a_gradient_is_no_longer_than_its_largest_norm(tmp_path: Path) -> None:
    ingested(tmp_path, tiny())
    found = trainer(tmp_path, tiny("teacher.dense_clip=1.0e-3"), "teacher")
    found.learner.learn(found.builder.build(np.arange(50)), torch.ones(50, dtype=torch.bool))
    norms = [value.grad.norm() for value in found.learner.network.parameters() if value.grad is not None]
    assert float(torch.stack(norms).norm()) == pytest.approx(1e-3, rel=1e-3)


def after_a_step(folder: Path, weight: torch.Tensor | None, keep: torch.Tensor) -> dict[str, torch.Tensor]:
    found = trainer(folder, tiny(), "teacher")
    batch = found.builder.build(np.arange(50))
    found.learner.learn(batch if weight is None else replace(batch, weight=weight), keep)
    return {name: value.clone() for name, value in found.learner.state()[0].items()}


def test_only_how_weights_compare_matters_and_a_row_without_one_is_not_learned(tmp_path: Path) -> None:
    ingested(tmp_path, tiny())
    every, some = torch.ones(50, dtype=torch.bool), torch.arange(50) % 3 > 0
    plain = after_a_step(tmp_path, None, every)
    assert same_bits(after_a_step(tmp_path, torch.full((50,), 2.0), every), plain)
    half = after_a_step(tmp_path, torch.where(some, 2.0, 0.0), every)
    assert same_bits(half, after_a_step(tmp_path, None, some)) and not same_bits(half, plain)

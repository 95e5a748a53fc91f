"""Generative pre-training: what it learns from, what it leaves alone, and that it does not peek."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from recdistill.app.run import train_stage
from recdistill.config.load import load_text
from recdistill.config.models import PretrainConfig
from recdistill.data.readers.simulator import SIMULATED
from recdistill.data.store.sample_store import SampleStore
from recdistill.errors import UserError
from recdistill.models.embeddings.growable import TableOptions
from recdistill.models.factory import build_backbone
from recdistill.models.layers.device import place
from recdistill.train import build
from recdistill.train import pretrain as learning
from recdistill.train.categories import CategoryColumn
from recdistill.train.pretrain import next_item_loss, pretrain, windows_of
from tests.support.pretended_device import another_device
from tests.support.runs import ingested, tiny

CONFIG = PretrainConfig(epochs=3, batch=16, negatives=16, table_rate=0.02, rate=0.01)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> SampleStore:
    """Users who click the same few items in turn: item k is followed by item k + 1 of ten."""
    folder = ingested(tmp_path_factory.mktemp("pretrain") / "run", tiny("data.options.rows=3000"))
    copy = folder.root / "cycle"
    shutil.copytree(folder.store, copy)
    found = SampleStore(copy)
    histories = found.histories
    item, action = np.array(histories.item), np.ones_like(histories.action)
    for first, last in zip(histories.first[:-1], histories.first[1:], strict=True):
        item[first:last] = 1 + (np.arange(last - first) + first) % 10
    object.__setattr__(histories, "item", item)
    object.__setattr__(histories, "action", action)
    return found


def backbone(store: SampleStore, kind: str = "hstu") -> Any:
    torch.manual_seed(0)
    return build_backbone(
        kind,
        width=16,
        fields=store.context.shape[1],
        slots=store.lists.shape[1],
        actions=store.actions,
        length=8,
        tables=TableOptions(),
        options={"layers": 2},
    )


def cut(store: SampleStore, share: float = 0.5) -> int:
    return int(store.time[int(share * len(store))])


def test_windows_hold_every_known_event_once_but_for_what_they_share(store: SampleStore) -> None:
    time, first = cut(store), store.histories.first
    windows = windows_of(store, time, 8)
    assert (windows.stop - windows.start >= 2).all() and (windows.stop - windows.start <= 9).all()
    told = np.concatenate([np.arange(a + 1, b) for a, b in zip(windows.start, windows.stop, strict=True)])
    known = [
        event
        for user in range(1, len(first) - 1)
        for event in range(first[user] + 1, first[user + 1])
        if store.histories.known[event] < time
    ]
    assert sorted(told.tolist()) == known


def test_elsewhere_is_as_here(store: SampleStore) -> None:
    def learned(there: torch.device | None) -> torch.Tensor:
        net = backbone(store)
        if there is not None:
            place(net, there)
        pretrain(net, store, cut(store), 8, CONFIG.model_copy(update={"dense": True}), seed=0)
        rows = net.inputs.item.peek(torch.arange(12))
        return torch.cat(
            [rows.flatten(), *(parameter.detach().cpu().flatten() for parameter in net.encoders.parameters())]
        )

    here = learned(None)
    with another_device() as device:
        torch.testing.assert_close(learned(device), here, rtol=1e-3, atol=1e-4)


def test_the_loss_is_the_written_out_one() -> None:
    torch.manual_seed(0)
    states, rows = torch.randn(5, 4).double(), torch.randn(7, 4).double()
    target, drawn = torch.tensor([1, 2, 3, 1, 6]), torch.tensor([2, 5, 5, 1])
    losses = []
    for state, right in zip(states, target.tolist(), strict=True):
        others = [right] + [one for one in drawn.tolist() if one != right]
        scores = torch.stack([functional.cosine_similarity(state, rows[one], dim=0) / 0.1 for one in others])
        losses.append(functional.cross_entropy(scores[None], torch.tensor([0])))
    torch.testing.assert_close(next_item_loss(states, rows, target, drawn, 0.1), torch.stack(losses).mean())


def test_the_loss_in_parts_is_the_loss_at_once_and_keeps_no_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    n, m = 101, 64
    target, drawn, losses, kept = torch.randint(30, (n,)), torch.randint(30, (m,)), [], []
    for scores in (n * m, 7 * m, 1):  # all at once, seven states at a time, one
        monkeypatch.setattr(learning, "SCORES", scores)
        states, rows = (
            torch.linspace(-1, 1, size * 4).double().sin().view(size, 4).requires_grad_() for size in (n, 30)
        )
        largest = [0]

        def keep(tensor: torch.Tensor, largest: list[int] = largest) -> torch.Tensor:
            largest[0] = max(largest[0], tensor.numel())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            loss = next_item_loss(states, rows, target, drawn, 0.05)
        loss.backward()
        losses.append((loss.detach(), states.grad, rows.grad))
        kept.append(largest[0])
    for other in losses[1:]:
        torch.testing.assert_close(other, losses[0], rtol=1e-12, atol=1e-12)
    assert max(kept) < n * m


@pytest.mark.parametrize("kind", ["hstu", "transformer"])
def test_what_always_follows_is_learned(store: SampleStore, kind: str) -> None:
    def last(epochs: int) -> float:
        return pretrain(
            backbone(store, kind), store, cut(store), 8, CONFIG.model_copy(update={"epochs": epochs, "dense": True}), 0
        )

    assert last(30) < 0.3 < last(1)  # nats of 17 items; nothing learned: 2.8


def test_it_does_not_peek(store: SampleStore) -> None:
    """Whatever happened after the cut, the same is learned."""
    learned = []
    item = store.histories.item
    for _ in range(2):
        net = backbone(store)
        pretrain(net, store, cut(store), 8, CONFIG, 0)
        learned.append(net.inputs.item.state())
        object.__setattr__(
            store.histories, "item", np.where(np.asarray(store.histories.known) < cut(store), item, 40 - item)
        )
    object.__setattr__(store.histories, "item", item)
    assert all(torch.equal(learned[0][name], learned[1][name]) for name in learned[0])


def test_only_the_item_table_moves_unless_the_encoder_goes_on(store: SampleStore) -> None:
    for dense in (False, True):
        net = backbone(store)
        before = {name: value.clone() for name, value in net.named_parameters()}
        random = torch.get_rng_state()
        pretrain(net, store, cut(store), 8, CONFIG.model_copy(update={"dense": dense}), 0)
        assert torch.equal(random, torch.get_rng_state())
        moved = {name for name, value in net.named_parameters() if not torch.equal(value, before[name])}
        assert bool(moved) == dense and all(name.startswith("encoders.") for name in moved)
        assert net.inputs.item.touched > 0 and net.inputs.item.rate == TableOptions().rate


def test_gradients_are_clipped_and_rows_decay_all_together(store: SampleStore, monkeypatch: pytest.MonkeyPatch) -> None:
    norms: list[float] = []
    clip = learning._Pretraining._clip

    def watched(self: Any) -> None:
        clip(self)
        parts = [one.grad for one in self.encoder.parameters() if one.grad is not None] + self.table.gradients()
        norms.append(float(torch.stack([part.norm() for part in parts]).norm()))
        assert self.table.decay == 0.1

    monkeypatch.setattr(learning._Pretraining, "_clip", watched)
    net = backbone(store)
    pretrain(net, store, cut(store), 8, CONFIG, 0)
    assert max(norms) == pytest.approx(1.0, abs=1e-4) and net.inputs.item.decay == 0


@pytest.mark.parametrize("table", ["frozen", "transferred"])
def test_frozen_items_stay_and_new_ones_learn(store: SampleStore, table: str) -> None:
    net = backbone(store)
    pretrain(net, store, cut(store), 8, CONFIG.model_copy(update={"table": table}), 0)
    items = net.inputs.item
    for source in (items, net.inputs.item.__class__(16, seed=0, name="item", std=0.01)):
        if source is not items:
            source.load_state(items.state())  # as a resumed run has it
        rows = torch.tensor([0, 1, 2, 30])  # 1 and 2 were met, 30 is new
        before = source(rows).detach().clone()
        source.clear()
        source(rows).sum().backward()
        source.step()
        after = source._weight.index_select(0, rows)
        moved = (after != before).any(1).tolist()
        assert moved == [False, table == "transferred", table == "transferred", True]


def test_a_run_pre_trains_once_and_says_all(tmp_path: Path) -> None:
    pretrained = "teacher.pretrain={at: 0.5, category: topic, epochs: 1, negatives: 8}"
    sets = ("teacher.kind=hstu", "teacher.epochs=0", pretrained)
    folder = ingested(tmp_path / "run", tiny(*sets))
    train_stage(folder, tiny(*sets), ["teacher"])
    assert build.finished(folder, worker_job(tiny(*sets)), 400)


def test_a_category_column_is_predicted_too(store: SampleStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its loss is added as it is; by chance that of 10 topics is 2.3 nats, and an item that always has one is known."""
    column = CategoryColumn.of("topic", SIMULATED, store, "x")

    def last(epochs: int, category: CategoryColumn | None = column) -> float:
        config = CONFIG.model_copy(update={"epochs": epochs, "dense": True})
        return pretrain(backbone(store), store, cut(store), 8, config, 0, category)

    alone = last(30, None)
    assert alone < last(30) < alone + 0.5 and last(1) > 3.5
    for nats in (0.0, 5.0):
        monkeypatch.setattr(learning, "category_loss", lambda states, *_, nats=nats: states.new_tensor(nats))
        losses = (last(1), *([] if nats == 0 else [losses[0]]))  # noqa: F821
    assert losses[0] == pytest.approx(losses[1] + 5.0, abs=1e-5)


def worker_job(experiment: Any) -> Any:
    from recdistill.runs.jobs import jobs_of

    return jobs_of(experiment)[0]


@pytest.mark.parametrize(
    ("sets", "says"),
    [
        (("teacher.kind=din",), "teacher.pretrain: is for kinds hstu"),
        (("teacher.kind=longer",), "is for kinds hstu"),
        (("teacher.kind=hstu", "teacher.options={transducers: [[0], [1]]}"), "without transducers"),
        (
            ("teacher.kind=hstu", "students.light.distill.signals=crossfit", "crossfit.share=0.5"),
            "teacher.pretrain: cross-fitted",
        ),
        (
            ("teacher.kind=hstu", "teacher.pretrain.category=topics"),
            "teacher.pretrain.category: no feature 'topics'; did you mean 'topic'",
        ),
        (("teacher.kind=hstu", "checkpoint_rows=400"), "ends before the first checkpoint; lower checkpoint_rows"),
    ],
)
def test_what_cannot_be_is_refused(tmp_path: Path, sets: tuple[str, ...], says: str) -> None:
    with pytest.raises(UserError, match=says):
        experiment = tiny("teacher.pretrain={at: 0.5}", *sets)
        build.check_models(experiment)
        train_stage(ingested(tmp_path / "run", experiment), experiment, ["teacher"])


def test_an_unknown_key_is_named() -> None:
    with pytest.raises(UserError, match="unknown key 'teacher.pretrain.epoch'; did you mean 'epochs'"):
        load_text("{name: x, data: {}, teacher: {kind: hstu, pretrain: {epoch: 1}}}")

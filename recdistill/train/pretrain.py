"""Generative pre-training (GPSD, 2506.03699): the item table learns to predict what users do next, before it goes on
learning labels.

It happens at one point of a model's pass over the log, and learns from what was known there: no prediction of a
sample afterwards knew its outcome, and predictions made before stay as they were.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from recdistill.config.models import PretrainConfig
from recdistill.data.store.history import Events
from recdistill.data.store.sample_store import SampleStore
from recdistill.distributed.ranks import ALONE
from recdistill.errors import UserError
from recdistill.models.attention.target_ops import EMPTY
from recdistill.models.backbones.sequence import SequenceBackbone
from recdistill.models.embeddings.growable import GrowableTable
from recdistill.models.embeddings.sharded import ShardedTable
from recdistill.models.encoders.hstu import HSTUStack
from recdistill.models.encoders.packed import Sequences, sequences
from recdistill.models.encoders.transformer import TransformerStack
from recdistill.models.heads import Towers
from recdistill.train.categories import CategoryColumn
from recdistill.train.learner import Learner
from recdistill.typing import Array

__all__ = ["Pretraining", "Windows", "able", "category_loss", "next_item_loss", "pretrain", "windows_of"]

SEED = 13
WARM, LOWEST, STAGES = (
    0.05,
    0.1,
    40,
)  # of the schedule: share of steps that warm up, last rate over first, changes of a table's rate
DECAY, CLIP = 0.1, 1.0  # of AdamW, table and encoder alike; and the largest norm of a gradient (the public code's)
SCORES = 1 << 22  # that stand in memory at a time, 16 MiB
SORTED = 32  # batches whose windows are sorted by length together
Stack = HSTUStack | TransformerStack


@dataclass(frozen=True)
class Windows:
    """Spans [start, stop) of the store's events, int64 [n] each, each of one user, at most length + 1 long,
    at least 2.
    """

    start: Array
    stop: Array

    def batches(self, size: int, seed: int) -> Iterator[Array]:
        """Yield int64 [<= size] windows each once, shuffled, of alike length together."""
        draw = np.random.default_rng((SEED, seed))
        order = draw.permutation(len(self.start))
        lengths, batches = self.stop - self.start, []
        for low in range(0, len(order), size * SORTED):
            some = order[low : low + size * SORTED]
            some = some[np.argsort(-lengths[some], kind="stable")]
            batches += [some[at : at + size] for at in range(0, len(some), size)]
        yield from (batches[at] for at in draw.permutation(len(batches)))


@dataclass(frozen=True)
class Pretraining:
    """How a model is pre-trained, and when. category: of the items, for it; make: makes a network like the model's, in
    full, where its weights are spread over ranks.
    """

    config: PretrainConfig
    category: CategoryColumn | None
    make: Callable[[], Towers]

    def of(self, learner: Learner, store: SampleStore, time: int, length: int, seed: int) -> None:
        """Pre-train a learner's network, see `pretrain`; a call of all ranks together, each of which has all of the
        dense part meanwhile.
        """
        network, dense = learner.network, learner.dense
        with torch.random.fork_rng(devices=[]):
            whole = dense.whole(network, self.make)
        items = cast(SequenceBackbone, network.backbone).inputs.item
        cast(SequenceBackbone, whole.backbone).inputs.item = items
        pretrain(whole.backbone, store, time, length, self.config, seed, self.category)
        dense.take(network, whole)


def windows_of(store: SampleStore, time: int, length: int) -> Windows:
    """Return every user's events known before `time` us, cut from the newest back into windows of length +
    1, one event shared.
    """
    users = np.arange(1, len(store.histories.first) - 1)
    history_end = store.histories.known_before(users, np.full(len(users), time))
    first = store.histories.first[users]
    counts = np.maximum(-(-(history_end - first - 1) // length), 0)
    back = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    stop = np.repeat(history_end, counts) - back * length
    return Windows(np.maximum(stop - length - 1, np.repeat(first, counts)), stop)


def able(backbone: nn.Module) -> bool:
    """Return whether a backbone can be pre-trained: one history, encoded event by event."""
    return (
        isinstance(backbone, SequenceBackbone)
        and len(backbone.encoders) == 1
        and isinstance(backbone.encoders[0], Stack)
    )


def next_item_loss(states: Tensor, rows: Tensor, target: Tensor, drawn: Tensor, temperature: float) -> Tensor:
    """Return the mean sampled softmax loss: states [n, D] against items `rows` [U, D], target int64 [n], drawn int64
    [m].

    Scores are cosines over `temperature`; a drawn item that is the target counts once. Scores are made for SCORES / m
    states at a time, and again for the backward pass, so that memory does not grow with n * m.
    """
    rows, step = functional.normalize(rows, dim=1), max(1, SCORES // max(1, len(drawn)))
    sums = [
        checkpoint(_summed_loss, some, rows, right, drawn, temperature, use_reentrant=False, preserve_rng_state=False)
        for some, right in zip(torch.split(states, step), torch.split(target, step), strict=True)
    ]
    return torch.stack(sums).sum() / len(states)


def category_loss(states: Tensor, rows: Tensor, target: Tensor, temperature: float) -> Tensor:
    """Return the mean softmax loss over all categories: states [n, D] against rows [1 + C, D], target int64 [n] from 1;
    states whose target is 0 do not count, nor does the first row; 0 where none counts.

    Scores as in `next_item_loss`.
    """
    known, all_ = target > 0, torch.arange(1, len(rows), device=rows.device)
    if not bool(known.any()):
        return states.new_zeros(())
    return next_item_loss(states[known], rows, target[known], all_, temperature)


def _summed_loss(states: Tensor, rows: Tensor, target: Tensor, drawn: Tensor, temperature: float) -> Tensor:
    """Return the summed loss of some states; rows of length 1."""
    states = functional.normalize(states, dim=1)
    right = (states * rows.index_select(0, target)).sum(1, keepdim=True) / temperature
    others = states @ rows.index_select(0, drawn).T / temperature
    others = others.masked_fill(target[:, None] == drawn, EMPTY)
    return (torch.cat([right, others], 1).logsumexp(1) - right[:, 0]).sum()


def pretrain(
    backbone: nn.Module,
    store: SampleStore,
    time: int,
    length: int,
    config: PretrainConfig,
    seed: int,
    category: CategoryColumn | None = None,
) -> float:
    """Teach the backbone's item table, and its encoder when `config.dense` says so, what was done before `time` us.

    category: a column of the log whose value for the next item is predicted too, as GPSD has it: the loss of each, a
    full softmax over cosines with a learned row per category, is added to the item's with the same weight. There the
    category is also part of what an event enters with, and its rows go on; here a model sees it as a feature of its
    own, and these rows are for pre-training alone. An item whose category is not known by then counts by itself alone.

    Returns the mean loss of the last epoch, NaN without any events; for a backbone that is `able`. The random state of
    the caller stays as it was.
    """
    net = cast(SequenceBackbone, backbone)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED + seed)
        encoder = cast(Stack, net.encoders[0] if config.dense else copy.deepcopy(net.encoders[0]))
        categories = category.of_items(store, time) if category else np.zeros(0, np.int64)
        if category and not categories.any():
            raise UserError("pretrain.category: no item has one by then; name another column, or raise pretrain.at")
        windows = windows_of(store, time, length)
        return _Pretraining(net, encoder, store, windows, time, config, seed, categories).run()


class _Pretraining:
    def __init__(
        self,
        net: SequenceBackbone,
        encoder: Stack,
        store: SampleStore,
        windows: Windows,
        time: int,
        config: PretrainConfig,
        seed: int,
        categories: Array,
    ) -> None:
        self.net, self.encoder, self.store, self.windows, self.time = net, encoder, store, windows, time
        self.config, self.seed = config, seed
        self.table: GrowableTable = net.inputs.item
        self.ranks = self.table.ranks if isinstance(self.table, ShardedTable) else ALONE
        self.known = np.unique(store.histories.gather(windows.start, windows.stop).item.astype(np.int64))
        self.categories, self.learned = categories, list(encoder.parameters())
        if len(categories):  # the first row is of no category, and is never scored
            rows = torch.randn(1 + int(categories.max()), self.table.width)
            self.learned.append(nn.Parameter(rows.to(self.table.device)))
        self.optimiser = torch.optim.AdamW(self.learned, lr=config.rate, betas=(0.9, 0.98), weight_decay=DECAY)

    def run(self) -> float:
        if not len(self.known):
            return math.nan
        steps, at, mean = self.config.epochs * -(-len(self.windows.start) // self.config.batch), 0, math.nan
        before = self.table.rate
        for epoch in range(self.config.epochs):
            losses = []
            for chosen in self.windows.batches(self.config.batch, self.seed * 1000 + epoch):
                self._rates(at, steps)
                losses.append(self._step(chosen))
                at += 1
            mean = float(np.mean(losses)) if losses else math.nan
        self.table.set_rate(before)
        if self.config.table == "frozen":
            self.table.freeze(torch.from_numpy(self.known))
        return mean

    def _rates(self, at: int, steps: int) -> None:
        """Warm up, then follow a cosine down to LOWEST of the rates."""
        warm = max(1, int(WARM * steps))
        share = min(1.0, (at + 1) / warm) * (
            LOWEST + (1 - LOWEST) * 0.5 * (1 + math.cos(math.pi * min(1.0, at / max(steps, 1))))
        )
        for group in self.optimiser.param_groups:
            group["lr"] = self.config.rate * share
        if at % max(1, steps // STAGES) == 0:
            self.table.set_rate(self.config.table_rate * share, DECAY)

    def _step(self, chosen: Array) -> float:
        """Learn from these windows, of which each rank encodes its part; return the loss.

        All ranks look up the same rows, so that their gradients are summed as the encoder's: one norm bounds all.
        """
        order = chosen[np.argsort(-(self.windows.stop - self.windows.start)[chosen], kind="stable")]
        found = self.store.histories.gather(self.windows.start[order], self.windows.stop[order])
        draw = self.known[torch.randint(len(self.known), (self.config.negatives,)).numpy()]
        asked = self._asked(found)
        if not asked.any():
            return 0.0
        unique, inverse = np.unique(np.concatenate([[0], found.item, draw]), return_inverse=True)
        rows = self.table(torch.from_numpy(unique.astype(np.int64)))
        index, drawn = (torch.from_numpy(part).to(rows.device) for part in np.split(inverse[1:], [len(found.item)]))
        mine, given = self.ranks.part_or_first(len(order))
        inside = slice(int(found.offsets[mine.start]), int(found.offsets[mine.stop]))
        counts, ago = np.diff(found.offsets[mine.start : mine.stop + 1]), self.time - found.time[inside]
        events = (counts, ago, found.action[inside].astype(np.int64))
        at, places = sequences(*(torch.from_numpy(part).to(rows.device) for part in events))
        padded = torch.zeros_like(at.ago)
        padded[places] = index[inside]
        whole = int(asked.sum()), self._categorised(found.item[asked])
        loss = self._loss(at, padded, rows, drawn, unique, whole if given else None)
        self.optimiser.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        shown = loss.detach()[None]
        self.ranks.add_up([*self._gradients(), shown])
        self._clip()
        self.optimiser.step()
        if isinstance(self.table, ShardedTable):
            self.table.step_alike()
        else:
            self.table.step()
        return float(shown)

    def _asked(self, found: Events) -> Array:
        """Return bool [T]: which events are predicted from those before them in their window."""
        first = np.zeros(len(found.item), bool)
        first[found.offsets[:-1]] = True
        return ~first & (found.action == 1) if self.outcomes else ~first

    def _categorised(self, items: Array) -> int:
        """Return how many of these items have a category."""
        return int((self.categories[items] > 0).sum()) if len(self.categories) else 0

    def _gradients(self) -> list[Tensor]:
        return [one.grad for one in self.learned if one.grad is not None] + self.table.gradients()

    def _clip(self) -> None:
        """Scale the gradients of encoder, categories and table down to a norm of at most CLIP, all together."""
        gradients = self._gradients()
        norm = torch.stack([gradient.norm().cpu() for gradient in gradients]).norm()
        if float(norm) > CLIP:
            for gradient in gradients:
                gradient.mul_(CLIP / float(norm))

    def _loss(
        self, at: Sequences, index: Tensor, rows: Tensor, drawn: Tensor, items: Array, whole: tuple[int, int] | None
    ) -> Tensor:
        """Return this rank's share of the loss of predicting each event from those before it.

        rows [U, D] are those of `items` int64 [U]; index [R, L] and drawn [m] say which of them. whole: how many events
        all ranks predict, and how many of these have a category; None where nothing here counts.
        """
        events = self.net.inputs.actions.add(
            rows.index_select(0, index.view(-1)).view(*index.shape, -1), at.action, at.mask
        )
        states = self.encoder.states(events, at)[:, :-1]
        predicted = at.mask[:, 1:] & (at.action[:, 1:] == 1) if self.outcomes else at.mask[:, 1:]
        if whole is None or not bool(predicted.any()):
            return 0.0 * (states.sum() + rows.sum() + sum(one.sum() for one in self._of_categories()))
        states, target = states[predicted], index[:, 1:][predicted]
        loss = next_item_loss(states, rows, target, drawn, self.config.temperature) * (len(target) / whole[0])
        for learned in self._of_categories():
            of = torch.from_numpy(self.categories[items]).to(rows.device).index_select(0, target)
            share = int((of > 0).sum()) / max(whole[1], 1)
            loss = loss + category_loss(states, learned, of, self.config.temperature) * share
        return loss

    def _of_categories(self) -> list[nn.Parameter]:
        """Return the rows of categories, in a list; none where they are not predicted."""
        return self.learned[-1:] if len(self.categories) else []

    @property
    def outcomes(self) -> bool:
        """Return whether an event is an impression with its outcome, of which only the positive ones were
        done by the user.
        """
        return not self.store.action_names and self.store.actions == 2

"""One model and its optimisers: predict a batch, then learn from it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

import numpy as np
import torch
from torch import Tensor

from recdistill.compress.importance import products_of
from recdistill.compress.resizer import Resizer
from recdistill.config.data import SamplingConfig
from recdistill.config.models import DistillConfig, ModelConfig
from recdistill.data.batch.batch import Batch
from recdistill.data.batch.slicer import SLICES, Slicer
from recdistill.distill.adapter import Adapter
from recdistill.distill.auto_weight import AutoWeight
from recdistill.distill.debias import KeepRates, as_sampled
from recdistill.distill.listwise import listwise_loss
from recdistill.distill.losses import (
    WHOLE,
    Shares,
    Supervision,
    importance_weight,
    objective,
    share_with_signal,
    signal_loss,
)
from recdistill.distill.optimizer_state import load_state_dict, network_state
from recdistill.distill.start_gate import StartGate
from recdistill.distill.state_codec import HiddenStateCodec, packed
from recdistill.distributed.ranks import IN_FULL, Dense, Rows
from recdistill.errors import RecdistillError, UserError, did_you_mean
from recdistill.models.embeddings.growable import GrowableTable
from recdistill.models.embeddings.lookups import Lookups
from recdistill.models.factory import REVISION, table_modules
from recdistill.models.heads import Towers
from recdistill.typing import Array

__all__ = ["Learner", "StepResult", "fixed_weight"]

MAX_LOGIT = 6e4  # of a candidate's logit, which is kept in 16 bits
ONE_SLICE = Slicer()
MEASURE_EVERY = 20  # steps between two measurements of the gradients for an automatic weight


@dataclass(frozen=True)
class StepResult:
    """logits: float32 [B, K], the main tower's from before the update; coverage: share of samples with a usable signal.

    state: uint8 [B, bytes], the quantised hidden state, for a teacher that records it; also from before the update.
    """

    logits: Tensor
    coverage: float
    state: Array | None = None


class Learner:
    """A network that learns by steps. Without `distill` (teacher) or with weight 0 (raw student) labels alone count.

    own, teacher: the keep rates under which each learned, the log's times its own, one for all tasks or one per task.
    tasks: their names, for weights by task; slicer: of the gate. UserError for a weight of a task that there is not.
    dense: how the network's parameters lie over the ranks that learn together, each from its part of a step.
    """

    def __init__(
        self,
        network: Towers,
        config: ModelConfig,
        distill: DistillConfig | None = None,
        own: Sequence[KeepRates] = (KeepRates(),),
        teacher: Sequence[KeepRates] = (KeepRates(),),
        tasks: Sequence[str] = (),
        slicer: Slicer = ONE_SLICE,
        dense: Dense = IN_FULL,
    ) -> None:
        self.network, self.distill, self.slicer, self.dense = network, distill, slicer, dense
        self.fixed = fixed_weight(distill.weight, tasks) if distill else 0.0
        self.own, self.teacher = tuple(own), tuple(teacher)
        self.log_odds_offset = KeepRates(
            config.sampling.positive, config.sampling.negative
        ).log_odds_offset  # over the log's labels
        self.tables: list[GrowableTable] = table_modules(network)
        self.lookups = Lookups(self.tables, dense.ranks, network.predicts_apart)
        self.dense_rate, self.warmup, self.clip = config.dense_rate, config.dense_warmup, config.dense_clip
        self.table_rate, self.rate_end, self.rate_now = config.table_rate, config.rate_end, 1.0
        self.optimiser = _adam(network, config.dense_rate)
        self.auto = AutoWeight(distill.auto_fraction) if distill and distill.weight == "auto" else None
        self.gate = (
            StartGate(
                distill.gate.margin,
                distill.gate.window,
                self.log_odds_offset,
                self.log_odds_offset + teacher[0].log_odds_offset - own[0].log_odds_offset,
                sigmas=distill.gate.sigmas,
                slices=SLICES,
            )
            if distill and distill.gate.start != "always"
            else None
        )
        adapter = distill.adapter if distill and network.adapted is not None else None
        self.hidden_state_codec: HiddenStateCodec | None = None
        self.resizer: Resizer | None = None
        self.adapter = Adapter(max(len(tasks), 1), adapter.hidden, adapter.rate) if adapter else None
        self.sampling: SamplingConfig = config.sampling
        self.steps = 0

    def resize(self, block: int) -> None:
        """Give the network the widths that its plan has for a block, if it has a plan (compress/)."""
        found = self.resizer.at(block, self.network, self.optimiser.state) if self.resizer else None
        if found is not None:
            network, state = found
            self.begin_with(cast(Towers, network))
            self.optimiser.state.update(state)

    def begin_with(self, network: Towers) -> None:
        """Go on with another network, whose optimiser has no state yet."""
        self.network, self.tables = network, table_modules(network)
        self.lookups = Lookups(self.tables, self.dense.ranks, network.predicts_apart)
        self.optimiser = _adam(network, self.dense_rate)
        self._set_rates()

    def become(self, network: Towers) -> None:
        """Take over the weights and rows of a network like its own, made in full on the host, of which this rank's rows
        are there; what its optimisers learned is given up.
        """
        weights = {f"network/{name}": value for name, value in network.state_dict().items()}
        self.optimiser = _adam(self.network, self.dense_rate)
        load_state_dict(self.network, self.optimiser, self.dense.shares(self.network, weights))
        for mine, theirs in zip(self.tables, table_modules(network), strict=True):
            mine.load_state(theirs.state())
        self._set_rates()

    def at_share(self, share: float) -> None:
        """Learn from now on at the rates of that share of the training on a log: a cosine from 1 down to `rate_end`."""
        if self.rate_end < 1:
            self.rate_now = self.rate_end + (1 - self.rate_end) * (1 + math.cos(math.pi * min(share, 1.0))) / 2
            self._set_rates()

    def _set_rates(self) -> None:
        for group in self.optimiser.param_groups:
            group["lr"] = self.dense_rate * self.rate_now
        for table in self.tables:
            if table.rate != self.table_rate * self.rate_now:
                table.set_rate(self.table_rate * self.rate_now, table.decay)

    def predict(self, batch: Batch) -> Tensor:
        """Return the main tower's logits, float32 [B, K], and learn nothing."""
        with torch.no_grad():
            return batch.as_drawn(self.network.heads(self.network.shared(batch))[0])

    def outcomes(self, labels: Array) -> Array:
        """Return float32 [n], the first task's labels [n] as progress counts them: unknown of a regression."""
        first = self.network.regression is not None and bool(self.network.regression[0])
        return np.full(len(labels), np.nan, np.float32) if first else labels

    def score_candidates(self, asked: Batch, samples: int) -> Array:
        """Return float16 [samples, count, K], logits of candidates, clipped to +-MAX_LOGIT."""
        logits = self.predict(asked).clamp(-MAX_LOGIT, MAX_LOGIT)
        return np.asarray(logits.view(samples, -1, logits.shape[1]).numpy(), np.float16)

    def predict_only(self, batch: Batch) -> StepResult:
        """Return what `learn` would, and learn nothing."""
        with torch.no_grad():
            hidden = self.network.shared(batch)
            return StepResult(batch.as_drawn(self.network.heads(hidden)[0]), 0.0, self._state(hidden))

    def _state(self, hidden: Tensor) -> Array | None:
        if self.hidden_state_codec is None:
            return None
        with torch.no_grad():
            codes = self.hidden_state_codec.encode(self.network.recorded(hidden))
            return packed(codes, self.hidden_state_codec.bits)

    def learn(
        self,
        batch: Batch,
        keep: Tensor,
        undo: Tensor | None = None,
        late: Tensor | None = None,
        shares: Shares = WHOLE,
    ) -> StepResult:
        """Predict the batch, then take one step on the rows that `keep` (bool [B]) lets through and that have a weight.

        undo: bool [B], positives that were learned as negatives before. late: float32 [K], the share of each task's
        positives that come a second time, after having been negatives; the labels are weighted accordingly. shares: of
        this batch in the step of several ranks. Raises RecdistillError before the update, naming sample ids, when the
        loss or a gradient is not finite.
        """
        row_weight = _weights(batch)
        keep = keep if row_weight is None else keep & (row_weight[:: batch.rows_per_sample, 0] > 0)
        dropped = ~keep[:, None].repeat_interleave(batch.rows_per_sample, 0)
        labels = batch.labels.masked_fill(dropped, math.nan)
        measured = self.resizer is not None and self.resizer.due(self.steps, shares.none)
        clean = self.predict_only(batch) if self.network.predicts_apart else None
        self.network.lies_at(shares.first * batch.rows_per_sample, (shares.of or 0) * batch.rows_per_sample)
        hidden = self.network.shared(batch)
        scale = self.distill.gradient_scale if self.distill else 1.0
        main, aux = self.network.heads(hidden, scale)
        main, aux = batch.as_drawn(main), None if aux is None else batch.as_drawn(aux)
        signals = self._signals(batch, main.detach()).masked_fill(dropped, math.nan)
        count = int(keep.sum()) * batch.rows_per_sample
        rows = count if row_weight is None else row_weight.masked_fill(dropped, 0)
        alpha = self._weight(hidden, main, aux, labels, signals, rows, shares)
        label_weight = None
        if undo is not None:
            label_weight = (~undo).float()[:, None].repeat_interleave(batch.rows_per_sample, 0).expand_as(labels)
        elif late is not None:
            label_weight = importance_weight(main.detach(), labels, late)
            labels = labels * label_weight
        given = Supervision(
            labels, signals, self.own, self.teacher, label_weight, rows, self.network.regression, shares
        )
        loss = objective(main, aux, given, self.distill, alpha)
        for between in self.network.between():
            loss = loss + self.network.auxiliary * objective(batch.as_drawn(between), None, given, None, 0.0)
        if self.network.routed:
            loss = loss + self.network.penalty()
        loss = self._with_channels(loss, batch, hidden, main if aux is None else aux, given)
        products = self._of_labels(main, aux, given) if measured else None
        self.optimiser.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        self._add_up(loss, batch)
        if self.resizer is not None and measured:
            summed = products_of(self.network, ranks=self.dense.ranks) if products is None else products
            self.resizer.measure(summed)
        state = self._state(hidden) if clean is None else clean.state
        if self.hidden_state_codec is not None:
            self.hidden_state_codec.learn(self.network.recorded(hidden)[: 0 if shares.none else None], self.dense.ranks)
        self._dense_step()
        self.lookups.step(batch.columns())
        self.steps += 1
        logits = main.detach() if clean is None else clean.logits
        return StepResult(logits[:: batch.rows_per_sample], share_with_signal(signals[:: batch.rows_per_sample]), state)

    def _with_channels(self, loss: Tensor, batch: Batch, hidden: Tensor, tower: Tensor, given: Supervision) -> Tensor:
        """Return the loss with that of the adapter's target and of the teacher's order within requests, if asked."""
        if self.distill is None:
            return loss
        if self.adapter is not None and self.distill.adapter:
            signals = as_sampled(given.signals, self.teacher, self.own)
            second = self.adapter.learn(signals, given.labels, given.rows, self.dense.ranks)
            head = batch.as_drawn(self.network.adapted_head(hidden, self.distill.gradient_scale))
            apart = signal_loss("cross-entropy", head, second, rows=given.rows) * given.shares.signals
            loss = loss + self.distill.adapter.weight * apart
        if self.distill.listwise:
            ordered = listwise_loss(tower, given.signals, batch.history.of, given.rows)
            loss = loss + self.distill.listwise * given.shares.signals * ordered
        return loss

    def _of_labels(self, main: Tensor, aux: Tensor | None, given: Supervision) -> dict[str, Tensor] | None:
        """Return what the units count for the labels' loss alone, None where that is not asked."""
        if self.resizer is None or not self.resizer.of_labels:
            return None
        return products_of(self.network, objective(main, aux, given, self.distill, 0.0), self.dense.ranks)

    def _dense_step(self) -> None:
        """Update the dense part, at its rate so far and from a gradient of at most its largest norm."""
        if self.warmup:
            for group in self.optimiser.param_groups:
                group["lr"] = self.dense_rate * self.rate_now * min(1.0, (self.steps + 1) / self.warmup)
        if self.clip is not None:
            self.dense.clip(self.network, self.clip)
        self.optimiser.step()

    def _signals(self, batch: Batch, main: Tensor) -> Tensor:
        """Return the batch's signals, missing where the gate is closed."""
        if self.gate is None:
            return batch.signals
        may = self.gate.update(batch.labels, batch.signals, main, self.slicer.of_batch(batch), self.dense.ranks)
        return batch.signals.masked_fill(~may[:, None], math.nan)

    def _weight(
        self,
        hidden: Tensor,
        main: Tensor,
        aux: Tensor | None,
        labels: Tensor,
        signals: Tensor,
        rows: int | Tensor,
        shares: Shares,
    ) -> float | Tensor:
        if self.auto is None:
            return self.fixed
        if self.steps % MEASURE_EVERY == 0:
            given = Supervision(labels, signals, self.own, self.teacher, None, rows, self.network.regression, shares)
            label_only = objective(main, aux, given, self.distill, 0.0)
            both = objective(main, aux, given, self.distill, 1.0)
            (by_label,) = torch.autograd.grad(label_only, hidden, retain_graph=True)
            (by_both,) = torch.autograd.grad(both, hidden, retain_graph=True)
            self.auto.update(by_label, by_both - by_label, self.dense.ranks)
        return float(self.auto.weight)

    def _add_up(self, loss: Tensor, batch: Batch) -> None:
        """Add up the dense gradients of all ranks; RecdistillError where the loss or a gradient is not finite, of all
        ranks together.
        """
        sums = [loss.detach(), *(gradient.sum().cpu() for table in self.tables for gradient in table.gradients())]
        if not math.isfinite(self.dense.add_up(self.network, torch.stack(sums).sum()[None])):
            ids = batch.sample_id[:5].tolist()
            raise RecdistillError(
                f"step {self.steps}: loss or gradient is not finite (loss {float(loss.detach())}); nothing was "
                f"updated; the batch holds {len(batch)} samples, first ids {ids}: look for extreme values or lower "
                "the learning rates"
            )

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return everything that the next step depends on, as (flat tensors, JSON values).

        A call of all ranks together, of which each gives a share; tensors of one name, rows upon rows in order of the
        ranks, are those of one process.
        """
        tensors: dict[str, Tensor] = {
            name: value.cpu() for name, value in self.dense.mine(network_state(self.network, self.optimiser)).items()
        }
        for at, table in enumerate(self.tables):
            tensors |= {f"table/{at}/{key}": value for key, value in table.state().items()}
        if self.dense.ranks.first:
            tensors["random"] = torch.get_rng_state()
        state: dict[str, Any] = {"steps": self.steps, "revision": REVISION}
        facts = {str(at): found for at, table in enumerate(self.tables) if (found := table.facts())}
        state |= {"bounded": facts} if facts else {}
        state |= {"auto": self.auto.state_dict()} if self.auto else {}
        state |= {"gate": self.gate.state_dict()} if self.gate else {}
        if self.resizer:
            scores, state["resizer"] = self.resizer.state(self.network)
            tensors |= {f"resizer/{key}": value for key, value in scores.items()} if self.dense.ranks.first else {}
        for name, part in self._parts():
            values, state[name] = part.state()
            tensors |= {f"{name}/{key}": value for key, value in values.items()} if self.dense.ranks.first else {}
        return tensors, state

    def restore(self, tensors: Mapping[str, Rows], state: dict[str, Any]) -> None:
        """Take up the state that `state()` gave, of all ranks together; of the tensors only what this rank keeps is
        read.

        UserError for one of a network that gives the same weights another meaning.
        """
        if state.get("revision", 1) != REVISION:
            raise UserError(
                f"a checkpoint of revision {state.get('revision', 1)} of the networks, of which this is {REVISION}: "
                "go on with the recdistill that wrote it, or train in a new folder"
            )
        if self.resizer:
            scores = {k.removeprefix("resizer/"): v for k, v in tensors.items() if k.startswith("resizer/")}
            self.begin_with(cast(Towers, self.resizer.restore(scores, state["resizer"])))
        load_state_dict(self.network, self.optimiser, self.dense.shares(self.network, tensors))
        for at, table in enumerate(self.tables):
            prefix = f"table/{at}/"
            table.load_state({k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)})
        torch.set_rng_state(tensors["random"][...])
        self.steps = int(state["steps"])
        if self.auto:
            self.auto.load_state_dict(state["auto"])
        if self.gate:
            self.gate.load_state_dict(state["gate"])
        for name, part in self._parts():
            part.restore(
                {k.removeprefix(f"{name}/"): v[...] for k, v in tensors.items() if k.startswith(f"{name}/")},
                state[name],
            )

    def _parts(self) -> Iterator[tuple[str, Adapter | HiddenStateCodec]]:
        """Yield the parts that learn with an optimiser of their own."""
        if self.adapter:
            yield "adapter", self.adapter
        if self.hidden_state_codec:
            yield "hidden_state_codec", self.hidden_state_codec


def _adam(network: Towers, rate: float) -> torch.optim.Adam:
    device = next(network.parameters()).device.type
    return torch.optim.Adam(network.parameters(), lr=rate, fused=device in ("cpu", "cuda"))


def _weights(batch: Batch) -> Tensor | None:
    """Return float32 [B, 1], what each row of a batch counts; None where all count alike, which takes no arithmetic."""
    return None if bool((batch.weight == 1).all()) else batch.weight[:, None]


def fixed_weight(weight: float | Literal["auto"] | Mapping[str, float], tasks: Sequence[str]) -> float | Tensor:
    """Return a weight as the loss takes it: one by task as float32 [K], 0 for a task that is not named; 0 for one that
    is not fixed.

    Raises UserError for a task that there is not.
    """
    if not isinstance(weight, Mapping):
        return 0.0 if weight == "auto" else float(weight)
    for name in weight:
        if name not in tasks:
            raise UserError(f"distill.weight: no task '{name}'{did_you_mean(name, tasks)}")
    return torch.tensor([weight.get(task, 0.0) for task in tasks])

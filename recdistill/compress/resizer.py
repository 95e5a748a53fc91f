"""Changes a learner's network to the widths that its plan has for a block, between two checkpoints."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from recdistill.compress.importance import MEASURE_EVERY, Importance, Measure
from recdistill.compress.plan import config_at
from recdistill.compress.transplant import move_rows, move_weights, moved_optimiser
from recdistill.compress.units import NEW, Growth, grown_units
from recdistill.config.models import ModelConfig, StudentConfig
from recdistill.distributed.ranks import IN_FULL, Dense, Rows, in_full
from recdistill.models.embeddings.growable import Drawn
from recdistill.models.embeddings.sharded import spread_tables
from recdistill.models.factory import table_modules
from recdistill.models.layers.device import place
from recdistill.models.widths import widths_of

__all__ = ["Resizer", "sizes_of"]

Make = Callable[[ModelConfig, int], nn.Module]  # configuration, seed of what is drawn -> a network on the host
State = Mapping[Tensor, Mapping[str, Tensor]]
FRESH_SEEDS = 1_000_003  # a prime: how far the seeds of one student's later draws lie from another's


class Resizer:
    """What a learner asks for the widths of its network. blocks: of its training on a log, see `config_at`.

    network: as of `config_at` block 0. dense: how its parameters lie over the ranks that learn it together, and call
    `measure` and `at` together; each has all of them meanwhile. Deterministic: equal blocks and scores give equal
    networks.
    """

    def __init__(
        self,
        config: StudentConfig,
        seed: int,
        blocks: int,
        make: Make,
        device: torch.device,
        network: nn.Module,
        dense: Dense = IN_FULL,
    ) -> None:
        self.config, self.seed, self.blocks, self.make, self.device = config, seed, blocks, make, device
        self.dense = dense
        self.now: ModelConfig = config_at(config, 0, blocks)
        self.importance = self._watch(network, {})

    def _watch(self, network: nn.Module, scores: Mapping[str, Tensor], measure: Measure | None = None) -> Importance:
        """Return what measures the network's units, which have these scores so far; measure: None for its own."""
        plan = self.config.prune or self.config.alternate
        own: Measure = plan.importance if plan else "magnitude"
        found = Importance(network, measure or own, self.dense.ranks)
        found.scores |= scores
        return found

    def due(self, step: int, none: bool = False) -> bool:
        """Return whether a step is to be measured, of which `measure` is then to be called; none: whether this rank has
        no rows of it.
        """
        due = step % MEASURE_EVERY == 0 and self.importance.measure != "magnitude"  # of which no step tells anything
        self.importance.due = due and not none
        return due

    @property
    def of_labels(self) -> bool:
        """Return whether the gradient of the labels' loss alone is measured."""
        return self.config.prune is not None and self.config.prune.of == "labels"

    def measure(self, products: Mapping[str, Tensor]) -> None:
        """Count a step, see `products_of`."""
        self.importance.update(products)

    def at(
        self, block: int, network: nn.Module, state: State
    ) -> tuple[nn.Module, dict[Tensor, dict[str, Tensor]]] | None:
        """Return the network of a block and its Adam state by parameter, made of `network` and its `state`; None where
        its widths stay. UserError for a network that says nothing of its widths, or differs in more than these.
        """
        wanted = config_at(self.config, block, self.blocks)
        if wanted == self.now:
            return None
        fresh = self.seed + FRESH_SEEDS * (block + 1)
        whole, new = self.dense.whole(network, partial(self._made, self.now, self.seed)), self._made(wanted, fresh)
        units = self._units(network, new, block)
        move_weights(whole, new, units, self._growth)
        moved = moved_optimiser(whole, _of(whole, network, state), new, units)
        mine = self.dense.spread(new, partial(self._placed, wanted, fresh))
        place(mine, self.device)
        move_rows(network, mine, units, self._growth)
        self.now, self.importance = wanted, self._watch(mine, self._scores(units))
        return mine, self._shares(mine, new, moved)

    def _shares(self, network: nn.Module, whole: nn.Module, state: State) -> dict[Tensor, dict[str, Tensor]]:
        """Return of the Adam state of a whole network's parameters what this rank has of it, by those of its own."""
        both = zip(network.parameters(), whole.parameters(), strict=True)
        return {
            mine: {key: self.dense.share(value, mine).to(mine.device) for key, value in state[theirs].items()}
            for mine, theirs in both
            if theirs in state
        }

    def _scores(self, units: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the scores so far by new units; a new one has none yet."""
        old = self.importance.scores
        return {name: torch.where(own == NEW, 0.0, old[name][own.clamp(min=0)]) for name, own in units.items()}

    @property
    def _growth(self) -> Growth:
        return self.config.alternate.regrow if self.config.alternate is not None else "zero"

    def _units(self, old: nn.Module, new: nn.Module, block: int) -> dict[str, Tensor]:
        sizes, before = widths_of(new).sizes, widths_of(old)
        kept = self.importance.kept({name: min(size, before.sizes[name]) for name, size in sizes.items()})
        return grown_units(before, kept, sizes, self._growth, torch.Generator().manual_seed(self.seed + block))

    def _made(self, config: ModelConfig, seed: int) -> nn.Module:
        with torch.random.fork_rng(devices=[]):
            network = self.make(config, seed)
        spread_tables(network, self.dense.ranks)
        return network

    def _placed(self, config: ModelConfig, seed: int) -> nn.Module:
        network = self._made(config, seed)
        place(network, self.device)
        return network

    def state(self, network: nn.Module) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return the scores, and which widths the network has, for `restore`."""
        return dict(self.importance.scores), sizes_of(self.now, network, self.importance.measure)

    def restore(self, tensors: Mapping[str, Rows], state: Mapping[str, Any]) -> nn.Module:
        """Return a network of the widths that `state()` returned, of this student or of one that it goes on from; its
        weights and rows are still to be loaded.
        """
        self.now = self.config.model_copy(update={"width": state["width"], "options": state["options"]})
        network = self.dense.built(partial(self._placed, self.now, self.seed))
        for table, drawn in zip(table_modules(network), state["drawn"], strict=True):
            table.start_as(Drawn.of(drawn))
        scores = {name: score[...] for name, score in tensors.items()}
        self.importance = self._watch(network, scores, state.get("importance"))
        return network


def sizes_of(config: ModelConfig, network: nn.Module, importance: Measure) -> dict[str, Any]:
    """Return which widths a network has and how its rows start, as JSON, for `Resizer.restore`; importance: by which
    its units are pruned.
    """
    drawn = [asdict(table.drawn) for table in table_modules(network)]
    return {"width": config.width, "options": config.options, "drawn": drawn, "importance": importance}


def _of(whole: nn.Module, network: nn.Module, state: State) -> State:
    """Return the Adam state of a network's parameters as that of those of a whole one like it, in full."""
    both = zip(whole.parameters(), network.parameters(), strict=True)
    return {
        theirs: {key: in_full(value) for key, value in state[mine].items()} for theirs, mine in both if mine in state
    }

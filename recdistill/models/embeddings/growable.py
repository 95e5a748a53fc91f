"""Embedding tables that grow with the vocabulary and learn only the rows a batch touched.

A table is not an `nn.Parameter`: a step costs O(rows in the batch), whatever the number of rows in the table. Rows are
gathered once per distinct id as a leaf of the graph; `step` updates those rows and no others.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from recdistill.data.batch.moved import gathered
from recdistill.distributed.ranks import Rows
from recdistill.models.embeddings.modulo import Modulo

__all__ = ["Drawn", "GrowableTable", "Optimiser", "TableOptions", "initial_rows", "replace_tables"]

Optimiser = Literal["adam", "rowwise-adagrad"]
BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8
MIN_CAPACITY = 1024  # rows of a new table
WIDE = 24  # floats
STATE = ("weight", "first", "second", "steps")
Block = tuple[str, int, float]  # name, width, deviation


@dataclass(frozen=True)
class TableOptions:
    """How the tables of a backbone start (seed) and learn (rate: the rows' own learning rate)."""

    seed: int = 0
    rate: float = 1e-2
    optimiser: Optimiser = "adam"


@dataclass(frozen=True)
class Drawn:
    """How rows start: blocks (name, width, deviation) drawn side by side, of whose columns these are taken, int
    [width], -1 for zeros, each times its share; None: all, as they are. around: the mean of all but the padding. made:
    how many blocks were ever named, so that none is drawn twice.
    """

    blocks: tuple[Block, ...]
    columns: tuple[int, ...] | None = None
    shares: tuple[float, ...] | None = None
    around: float = 0.0
    made: int = 1

    @classmethod
    def of(cls, state: Mapping[str, Any]) -> Drawn:
        """Return what its fields as JSON were made of."""
        blocks = tuple((str(name), int(width), float(std)) for name, width, std in state["blocks"])
        columns, shares = (None if state[key] is None else tuple(state[key]) for key in ("columns", "shares"))
        return cls(blocks, columns, shares, state.get("around", 0.0), state.get("made", len(blocks)))

    def rows(self, seed: int, rows: Tensor) -> Tensor:
        """Return float32 [n, width] first values of `rows`, int64 [n]."""
        blocks = [initial_rows(seed, name, rows, width, std) for name, width, std in self.blocks]
        found = blocks[0] if len(blocks) == 1 else torch.cat(blocks, 1)
        if self.around:
            found = found + self.around * (rows > 0)[:, None]
        if self.columns is None:
            return found
        columns = torch.tensor(self.columns)
        found = found[:, columns.clamp(min=0)].masked_fill(columns < 0, 0.0)
        return found if self.shares is None else found * torch.tensor(self.shares)

    def picked(self, columns: Tensor, share: Tensor | None, zero: bool, std: float) -> Drawn:
        """Return how the rows of a table of these columns start; see `GrowableTable.take_columns`."""
        width = sum(width for _, width, _ in self.blocks)
        mine = torch.tensor(self.columns) if self.columns is not None else torch.arange(width)
        new = int((columns < 0).sum())
        found = torch.where(columns < 0, -1, mine[columns.clamp(min=0)])
        blocks, drawn = self.blocks, bool(new) and not zero
        if drawn:
            blocks = (*blocks, (f"{blocks[0][0]}+{self.made}", new, std))
            found[columns < 0] = torch.arange(width, width + new)
        old = torch.ones(len(mine)) if self.shares is None else torch.tensor(self.shares)
        shares = old[columns.clamp(min=0)] * (1.0 if share is None else share)
        plain = bool((shares == 1).all())
        blocks, found = _used(blocks, found)
        kept = None if plain else tuple(shares.tolist())
        return Drawn(blocks, tuple(found.tolist()), kept, self.around, self.made + drawn)


def _used(blocks: tuple[Block, ...], columns: Tensor) -> tuple[tuple[Block, ...], Tensor]:
    """Return the blocks that have any of these columns, and the first one, which names new ones; the columns' places in
    them.
    """
    ends = torch.tensor([width for _, width, _ in blocks]).cumsum(0)
    of = torch.searchsorted(ends, columns.clamp(min=0), right=True)
    used = torch.arange(len(blocks)) == 0
    used[of[columns >= 0]] = True
    gone = torch.tensor([0 if keep else width for keep, (_, width, _) in zip(used.tolist(), blocks, strict=True)])
    moved = torch.where(columns < 0, columns, columns - gone.cumsum(0)[of])
    return tuple(block for keep, block in zip(used.tolist(), blocks, strict=True) if keep), moved


def initial_rows(seed: int, name: str, rows: Tensor, width: int, std: float) -> Tensor:
    """Return float32 [n, width] first values of `rows` (int64 [n]), mean 0, deviation `std`; row 0 is zero.

    A pure function of its arguments, row by row: the sum of four 16-bit uniforms taken from a 64-bit mix (splitmix64)
    of seed, name, row and column. Exact arithmetic only, so every machine and every chunking gives the same bits.
    """
    key = np.frombuffer(hashlib.blake2b(f"{seed}/{name}".encode(), digest_size=8).digest(), np.uint64)[0]
    row = rows.numpy().astype(np.uint64)[:, None] * np.uint64(width)
    mixed = (row + np.arange(width, dtype=np.uint64)) * np.uint64(0x9E3779B97F4A7C15) + key
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    mixed ^= mixed >> np.uint64(31)
    total = np.ascontiguousarray(mixed).view(np.uint16).reshape(len(mixed), width, 4).sum(-1, dtype=np.int64)
    scaled = (total - 131070) * (std / (65536 / 3**0.5))
    scaled[rows.numpy() == 0] = 0.0
    return torch.from_numpy(scaled.astype(np.float32))


def _zeros(*shape: int, dtype: Any = np.float32) -> Tensor:
    """Return zeros whose pages the system allocates when first written (torch.zeros would write them all)."""
    return torch.from_numpy(np.zeros(shape, dtype))


def _put(into: Tensor, rows: Tensor, values: Tensor) -> None:
    """Write `values` [n, D] to distinct `rows` of `into`: numpy copies wide rows faster, torch's
    index_copy_ narrow ones.
    """
    if values.shape[1] < WIDE or into.device.type != "cpu":
        into.index_copy_(0, rows, values)
    else:
        into.numpy()[rows.numpy()] = values.numpy()


class GrowableTable(nn.Module):
    """Rows of `width` floats for vocabulary indices 0, 1, ...; index 0 is padding, zero for ever.

    `name` must differ between the tables of one model that are to start differently.
    """

    def __init__(
        self, width: int, *, seed: int, name: str, std: float, optimiser: Optimiser = "adam", rate: float = 1e-2
    ) -> None:
        super().__init__()
        self.width, self.seed, self.name, self.std = width, seed, name, std
        self.optimiser, self.rate, self.decay = optimiser, rate, 0.0
        self.device = torch.device("cpu")  # where looked-up rows are wanted; the table itself stays with the host
        self._drawn = Drawn(((name, width, std),))
        self._live: list[tuple[Tensor, Tensor]] = []
        self._freezes = False
        self._scale = self._epsilon = torch.zeros(0)
        self._allocate(MIN_CAPACITY)

    def _allocate(self, capacity: int) -> None:
        second = self.width if self.optimiser == "adam" else 1
        self._weight = _zeros(capacity, self.width)
        self._first = _zeros(capacity, self.width if self.optimiser == "adam" else 0)
        self._second = _zeros(capacity, second)
        self._steps = _zeros(capacity, dtype=np.int32)
        self._ready, self._frozen = _zeros(capacity, dtype=np.bool_), _zeros(capacity, dtype=np.bool_)
        self._place = _zeros(capacity, dtype=np.int64)

    def _grow(self, rows: int) -> None:
        old = [self._weight, self._first, self._second, self._steps, self._ready, self._frozen]
        used = len(self._ready)
        self._allocate(max(rows, 2 * used))
        new = [self._weight, self._first, self._second, self._steps, self._ready, self._frozen]
        for before, after in zip(old, new, strict=True):
            after[:used] = before

    def _prepare(self, rows: Tensor) -> None:
        """Make room for `rows` and draw the ones met for the first time."""
        if len(rows) and int(rows.max()) >= len(self._ready):
            self._grow(int(rows.max()) + 1)
        ready = self._ready.index_select(0, rows)
        if not ready.all():
            fresh = rows[~ready]
            self._begin(fresh, self._first_values(fresh))
            self._ready[fresh] = True

    def _begin(self, rows: Tensor, values: Tensor) -> None:
        self._weight[rows] = values

    @property
    def settings(self) -> dict[str, Any]:
        """Return the arguments, but for its width, that make another table like this one."""
        return {name: getattr(self, name) for name in ("seed", "name", "std", "optimiser", "rate")}

    def _first_values(self, rows: Tensor) -> Tensor:
        return self._drawn.rows(self.seed, rows)

    @property
    def drawn(self) -> Drawn:
        """Return how new rows start."""
        return self._drawn

    def start_as(self, drawn: Drawn) -> None:
        """Let rows that nothing was learned of start so; for a table none of whose rows were looked up yet."""
        self._drawn = drawn

    def take_columns(self, other: GrowableTable, columns: Tensor, share: Tensor | None, zero: bool) -> None:
        """Become `other` with these of its columns, int64 [width], -1 for a new one, which starts at 0 or as it is
        drawn; share: float32 [width], what each column is multiplied by.
        """
        self.seed, self.rate, self.decay = other.seed, other.rate, other.decay
        self.start_as(other.drawn.picked(columns, share, zero, self.std))
        state, fresh = other.state(), columns < 0
        rows, kept = state["rows"], columns.clamp(min=0)
        old = state["weight"][:, kept] * (1.0 if share is None else share)
        found = torch.where(fresh, self.drawn.rows(self.seed, rows), old)
        moved = {"weight": found}
        if self.optimiser == "adam":
            moved["first"] = torch.where(fresh, torch.zeros(()), state["first"][:, kept])
            mean = state["second"].mean(1, keepdim=True)
            moved["second"] = torch.where(fresh, mean, state["second"][:, kept])
        self.load_state({**state, **moved})

    def peek(self, rows: Tensor) -> Tensor:
        """Return float32 [n, width], a copy of `rows`, int64 [n], which may repeat; nothing will be learned from it."""
        self._prepare(rows)
        return self._weight.index_select(0, rows)

    @property
    def touched(self) -> int:
        """Return how many rows have learned something."""
        return int((self._steps > 0).sum())

    @property
    def numbers(self) -> int:
        """Return how many numbers the rows that have learned something hold."""
        return self.touched * self.width

    def stored(self, rows: int) -> dict[str, tuple[GrowableTable, int]]:
        """Return by name the tables whose rows make up those of the first ids, up to `rows` with the padding, and how
        many rows of each.
        """
        return {"": (self, rows)}

    def seen(self, count: int) -> Tensor:
        """Return int32 [count], how many steps learned from each of the first rows, -1 where an id has none."""
        found = torch.zeros(count, dtype=torch.int32)
        known = self._steps[:count]
        found[: len(known)] = known
        return found

    def forward(self, unique: Tensor) -> Tensor:
        """Return float32 [U, width] rows of `unique`, int64 [U], distinct, unique[0] == 0, on the table's `device`.

        In training mode (and with gradients on) they come from a leaf that `step` will learn from.
        """
        self._prepare(unique)
        rows = gathered(self._weight, unique, self.device)
        if self.training and torch.is_grad_enabled():
            rows.requires_grad_()
            self._live.append((unique, rows))
        return rows.to(self.device, non_blocking=True)

    def shared(self, ids: Tensor, modulo: Modulo) -> Tensor:
        """Return float32 [U, width], the rows that ids share, int64 [U], distinct, ids[0] == 0; see `forward`."""
        distinct, place = torch.unique(modulo.rows(ids), return_inverse=True)
        found: Tensor = self(distinct)
        return found.index_select(0, place.to(found.device))

    def set_rate(self, rate: float, decay: float = 0.0) -> None:
        """Learn at another rate from the next step on, each row that learns shrunk by rate * decay before (AdamW)."""
        self.rate, self.decay, self._scale = rate, decay, torch.zeros(0)

    def freeze(self, rows: Tensor) -> None:
        """Let `rows`, int64, learn nothing from now on."""
        self._prepare(rows)
        self._frozen[rows], self._freezes = True, True

    def thaw(self) -> None:
        """Let every row learn again."""
        self._frozen[:], self._freezes = False, False

    def take_rows(self, rows: Tensor, values: Tensor) -> None:
        """Let `rows`, int64 [n], distinct and none of them padding, be `values`, float32 [n, width]: as if learned in
        one step, of which no moment is left.
        """
        self._prepare(rows)
        for into, value in ((self._weight, values), (self._first, 0.0), (self._second, 0.0), (self._steps, 1)):
            into[rows] = value

    def leaves(self) -> list[Tensor]:
        """Return the rows that were looked up since the last step, one [U, width] per lookup."""
        return [leaf for _, leaf in self._live]

    def gradients(self) -> list[Tensor]:
        """Return the gradients waiting for `step`, one [U, width] per lookup that received one."""
        return [leaf.grad for _, leaf in self._live if leaf.grad is not None]

    def facts(self) -> dict[str, int]:
        """Return what was counted of rows that are given and taken, nothing where they are not bounded."""
        return {}

    def clear(self) -> None:
        """Forget the lookups since the last step, and their gradients."""
        self._live.clear()

    def step(self) -> None:
        """Update every row looked up since the last step by its summed gradient, once; then forget the lookups."""
        live = [(rows, leaf.detach(), leaf.grad) for rows, leaf in self._live if leaf.grad is not None]
        self._live.clear()
        if not live:
            return
        rows, weight, gradient = live[0] if len(live) == 1 else self._summed(live)
        self._learn(rows[1:], weight[1:], gradient[1:])  # padding does not learn

    def update(self, rows: Tensor, gradient: Tensor) -> None:
        """Update `rows`, int64 [n], distinct and none of them padding, by their gradients [n, width], once."""
        self._learn(rows, self._weight.index_select(0, rows), gradient)

    def _learn(self, rows: Tensor, weight: Tensor, gradient: Tensor) -> None:
        if self._freezes:
            learns = ~self._frozen[rows]
            rows, weight, gradient = rows[learns], weight[learns], gradient[learns]
        steps = self._steps.index_select(0, rows) + 1
        self._steps.index_copy_(0, rows, steps)
        update = self._adam if self.optimiser == "adam" else self._rowwise_adagrad
        weight = weight * (1 - self.rate * self.decay) if self.decay else weight
        _put(self._weight, rows, update(rows, weight, gradient, steps))

    def _summed(self, live: list[tuple[Tensor, Tensor, Tensor]]) -> tuple[Tensor, Tensor, Tensor]:
        """Return (rows, weight, gradient) with each row once, padding first; O(ids), no sort."""
        ids = torch.cat([rows for rows, _, _ in live])
        self._place.index_copy_(0, ids, torch.arange(len(ids)))
        keep = self._place.index_select(0, ids) == torch.arange(len(ids))
        keep[0], keep[len(live[0][0]) :] = True, keep[len(live[0][0]) :] & (ids[len(live[0][0]) :] != 0)
        rows = ids[keep]
        self._place.index_copy_(0, rows, torch.arange(len(rows)))
        gradient = torch.zeros(len(rows), self.width)
        gradient.index_add_(0, self._place.index_select(0, ids), torch.cat([grad for _, _, grad in live]))
        return rows, self._weight.index_select(0, rows), gradient

    def _adam(self, rows: Tensor, weight: Tensor, gradient: Tensor, steps: Tensor) -> Tensor:
        """Lazy Adam: a row's moments decay, and its bias is corrected, by the steps that touched that row."""
        first = self._first.index_select(0, rows).lerp_(gradient, 1 - BETA1)
        second = self._second.index_select(0, rows).mul_(BETA2).addcmul_(gradient, gradient, value=1 - BETA2)
        _put(self._first, rows, first)
        _put(self._second, rows, second)
        factors = self._factors(int(steps.max()) if len(steps) else 0)
        scale, epsilon = (of.to(steps.device).index_select(0, steps)[:, None] for of in factors)
        return second.sqrt_().add_(epsilon).reciprocal_().mul_(first).mul_(scale).add_(weight)

    def _factors(self, largest: int) -> tuple[Tensor, Tensor]:
        """Return Adam's float32 factors by number of steps, up to `largest`: -rate sqrt(1 - b2^n) / (1 - b1^n), epsilon
        sqrt(1 - b2^n).

        The length is a power of two, so that a resumed run computes every factor by the same vector instructions.
        """
        if largest >= len(self._scale):
            count = torch.arange(1 << (largest + MIN_CAPACITY).bit_length(), dtype=torch.float64).clamp_(min=1)
            root = (1 - BETA2**count).sqrt_()
            self._scale = (root / (1 - BETA1**count)).mul_(-self.rate).float()
            self._epsilon = (EPSILON * root).float()
        return self._scale, self._epsilon

    def _rowwise_adagrad(self, rows: Tensor, weight: Tensor, gradient: Tensor, steps: Tensor) -> Tensor:
        """Adagrad with one accumulator per row: the mean square of its gradient (torchrec's row-wise Adagrad)."""
        work = gradient.square()
        second = self._second.index_select(0, rows) + work.mean(1, keepdim=True)
        self._second.index_copy_(0, rows, second)
        torch.mul(gradient, self.rate, out=work).div_(second.sqrt_().add_(EPSILON))
        return torch.sub(weight, work, out=work)

    def state(self) -> dict[str, Tensor]:
        """Return a copy of the rows that have learned or are frozen: `rows` int64 [n], their weights and
        optimiser state.
        """
        rows = torch.nonzero((self._steps > 0) | self._frozen)[:, 0]
        frozen = {"frozen": self._frozen.index_select(0, rows)} if self._freezes else {}
        return {"rows": rows} | {name: getattr(self, f"_{name}").index_select(0, rows) for name in STATE} | frozen

    def load_state(self, state: Mapping[str, Rows]) -> None:
        """Load a `state`, its rows in any order; every other row is as new."""
        rows = state["rows"][...]
        self.clear()
        self._allocate(max(MIN_CAPACITY, int(rows.max()) + 1 if len(rows) else 0))
        for name in STATE:
            getattr(self, f"_{name}").index_copy_(0, rows, state[name][...])
        self._freezes = "frozen" in state
        if self._freezes:
            self._frozen.index_copy_(0, rows, state["frozen"][...])
        self._ready[rows] = True


def replace_tables(module: nn.Module, made: Callable[[GrowableTable], GrowableTable]) -> None:
    """Replace every table inside, of which no row was looked up yet, by what is made of it; its parts are not tables
    of the module.
    """
    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, GrowableTable) and not isinstance(parent, GrowableTable):
                setattr(parent, name, made(child))

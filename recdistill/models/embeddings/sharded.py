"""An embedding table whose rows are spread over ranks: row r belongs to rank r mod N, which alone keeps and learns it.

A lookup sends ids to their owners and rows back; a step sends gradients to the owners, which add them up (`Lookups`:
of all tables together). A row starts
as it would in one table, and the states of all ranks together are that of one table, so that a run may go on with
another number of ranks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from recdistill.distributed.ranks import Ranks, Rows
from recdistill.models.embeddings.bounded import BoundedTable, RowBudget
from recdistill.models.embeddings.composed import ComposedTable
from recdistill.models.embeddings.fbgemm_rows import FbgemmTable
from recdistill.models.embeddings.growable import Drawn, GrowableTable, replace_tables
from recdistill.models.embeddings.modulo import Modulo
from recdistill.models.embeddings.on_device import DeviceTable
from recdistill.models.embeddings.routes import Asked, Route, routes_of

__all__ = ["ShardedTable", "bring", "learn", "products", "spread_parts", "spread_tables"]

Wanted = tuple["ShardedTable", Route, bool]  # and whether it will be learned from
PIECE = 1 << 16  # rows of a state that are read at once


class _Owned(GrowableTable):
    """The rows of one rank, by r // N; its state is by r."""

    def __init__(self, table: GrowableTable, ranks: Ranks) -> None:
        super().__init__(table.width, **table.settings)
        self.ranks = ranks
        self.start_as(table.drawn)

    def _first_values(self, rows: Tensor) -> Tensor:
        return self.drawn.rows(self.seed, self.ranks.numbers(rows))

    def asked(self, rows: Tensor, learns: bool) -> Tensor:
        """Return float32 [n, width], a copy of `rows`, int64 [n]; learns: whether they will be learned from."""
        return self.peek(rows)

    def state(self) -> dict[str, Tensor]:
        own = super().state()
        return {**own, "rows": self.ranks.numbers(own["rows"])}

    def load_state(self, state: Mapping[str, Rows]) -> None:
        """Load this rank's rows of a whole table's state, in any order; of other rows only the numbers are read."""
        rows = state["rows"][...]
        mine = self.ranks.owns(rows)
        own = {name: _chosen(values, mine) for name, values in state.items() if name != "rows"}
        super().load_state({**own, "rows": rows[mine] // self.ranks.size})


class _OwnedThere(_Owned, DeviceTable):
    """The same in the memory of a device; rows and gradients travel from there and to there."""

    def __init__(self, table: GrowableTable, ranks: Ranks, home: torch.device) -> None:
        self.ranks = ranks
        DeviceTable.__init__(self, table, home)

    def asked(self, rows: Tensor, learns: bool) -> Tensor:
        """Return float32 [n, width] on the device, a copy of `rows`, int64 [n] on the host."""
        self._prepare(rows)
        return self._weight.index_select(0, rows.to(self.home))


class _OwnedByFbgemm(_OwnedThere, FbgemmTable):
    """The same held and moved by FBGEMM."""


class _OwnedBounded(BoundedTable):
    """The same of rows that are bounded, those of ids r by r // N."""

    def asked(self, rows: Tensor, learns: bool) -> Tensor:
        """Return float32 [n, width], a copy of the rows of ids; those that will be learned from are seen."""
        ids = self.ranks.numbers(rows)
        if learns:
            self._met(torch.unique(ids))
        return self.peek(ids)

    def update(self, rows: Tensor, gradient: Tensor) -> None:
        """Update the rows of ids once, where they have one, and end the step."""
        places = self._rows(self.ranks.numbers(rows))
        there = places > 0
        super().update(places[there], gradient[there])
        self.now += 1


class ShardedTable(GrowableTable):
    """A table spread over ranks; a model uses it like the `table` it is made of, whose rows were not looked up yet.
    budget: where rows are bounded, of all ranks together.
    """

    def __init__(self, table: GrowableTable, ranks: Ranks, budget: RowBudget | None = None) -> None:
        super().__init__(table.width, **table.settings)
        self.ranks = ranks
        owned = _Owned(table, ranks) if budget is None else _OwnedBounded(table, budget, ranks)
        self._owned: tuple[_Owned | _OwnedBounded] = (owned,)  # a tuple, so that torch registers no module
        self._brought: list[tuple[Route, Tensor]] = []
        self.lookups: list[tuple[Route, Tensor]] = []  # since the last step, and their rows

    @property
    def owned(self) -> _Owned | _OwnedBounded:
        """Return the rows of this rank."""
        return self._owned[0]

    def lie_on(self, home: torch.device, fused: bool = False) -> None:
        """Let this rank's rows, of which none was looked up yet, lie in the memory of `home`; fused: in a table of
        FBGEMM.
        """
        self._owned = ((_OwnedByFbgemm if fused else _OwnedThere)(self, self.ranks, home),)

    @property
    def bounded(self) -> bool:
        """Return whether ids get a row, and lose it, as they are learned from."""
        return isinstance(self.owned, BoundedTable)

    @property
    def touched(self) -> int:
        """Return how many rows have learned something, of those of this rank."""
        return self.owned.touched

    @property
    def drawn(self) -> Drawn:
        """Return how new rows start."""
        return self.owned.drawn

    def start_as(self, drawn: Drawn) -> None:
        """Let rows that nothing was learned of start so; see `GrowableTable`."""
        self.owned.start_as(drawn)

    def take_columns(self, other: GrowableTable, columns: Tensor, share: Tensor | None, zero: bool) -> None:
        """Become `other`, which is spread likewise, with these of its columns; see `GrowableTable`."""
        self.seed, self.rate, self.decay = other.seed, other.rate, other.decay
        self.owned.take_columns(other, columns, share, zero)

    def forward(self, unique: Tensor) -> Tensor:
        """Return float32 [U, width] rows of `unique`, int64 [U]: those that were brought for this very tensor, or asked
        for now; a call of all ranks together.
        """
        return self._read(unique, None)

    def shared(self, ids: Tensor, modulo: Modulo) -> Tensor:
        """Return float32 [U, width], the rows that ids share, int64 [U], as `forward`."""
        return self._read(ids, modulo)

    def _read(self, ids: Tensor, modulo: Modulo | None) -> Tensor:
        learns = self.training and torch.is_grad_enabled()
        found = [one for one in self._brought if one[0].asked[0] is ids and one[0].asked[1] == modulo]
        if not found:
            asked = routes_of([(ids, modulo)], self.ranks)
            found = _fetched([(self, route, learns) for route in asked], self.ranks)
        route, rows = found[-1 if learns else 0]
        if learns:
            rows = rows.detach().requires_grad_()
            self.lookups.append((route, rows))
        return route.by_id(rows).to(self.device)

    def looked_up(self) -> list[Asked]:
        """Return what was looked up since the last step, to learn from it."""
        return [route.asked for route, _ in self.lookups]

    def take(self, brought: Sequence[tuple[Route, Tensor]]) -> None:
        """Have these rows, float32 [R, width], for the next lookups of their columns, up to the next step; of one
        column those to read come before those to learn from.
        """
        self._brought = list(brought)

    def taken(self) -> list[tuple[Route, Tensor]]:
        """Return the routes of the lookups since the last step and the rows' gradients, float32 [U, width] each, and
        forget them, as what was brought for them.
        """
        lookups, self.lookups, self._brought = self.lookups, [], []
        return [(route, torch.zeros_like(leaf) if leaf.grad is None else leaf.grad) for route, leaf in lookups]

    def leaves(self) -> list[Tensor]:
        """Return the rows that were looked up since the last step, one [U, width] per lookup."""
        return [leaf for _, leaf in self.lookups]

    def gradients(self) -> list[Tensor]:
        """Return the gradients waiting for `step`."""
        return [leaf.grad for _, leaf in self.lookups if leaf.grad is not None]

    def clear(self) -> None:
        """Forget the lookups since the last step, and what was brought for them."""
        self.lookups, self._brought = [], []

    def step(self) -> None:
        """Let every owner update its rows by the gradients of all ranks; a call of all ranks together."""
        learn([self], self.ranks)

    def step_alike(self) -> None:
        """Let every owner update its rows by gradients that are the sums of all ranks already, the same on each of
        them: without a message.
        """
        taken = self.taken()
        own = [self.ranks.owns(route.rows) for route, _ in taken]
        rows = [route.rows[mine] // self.ranks.size for (route, _), mine in zip(taken, own, strict=True)]
        self.learn(rows, [pull[mine.to(pull.device)] for (_, pull), mine in zip(taken, own, strict=True)])

    def learn(self, rows: Sequence[Tensor], gradients: Sequence[Tensor]) -> None:
        """Update this rank's rows, int64 [n] per lookup, by all ranks' gradients of them, float32 [n, width]."""
        distinct, summed = self._added_up(rows, gradients)
        real = (
            (distinct != 0) if self.ranks.first else torch.ones_like(distinct, dtype=torch.bool)
        )  # padding does not learn
        self.owned.update(distinct[real], summed[real.to(summed.device)])

    def _added_up(self, rows: Sequence[Tensor], gradients: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Return these rows once each, int64 [n], and the sums of their gradients, float32 [n, width]."""
        distinct, place = torch.unique(torch.cat([torch.zeros(0, dtype=torch.int64), *rows]), return_inverse=True)
        given = torch.cat(list(gradients)) if gradients else torch.zeros(0, self.width)
        return distinct, given.new_zeros(len(distinct), self.width).index_add_(0, place.to(given.device), given)

    def product(self, rows: Tensor, gradients: Tensor) -> Tensor:
        """Return float32 [width], |row x gradient| added up over this rank's rows of a lookup, by all ranks' gradients
        of them; see `learn`.
        """
        distinct, summed = self._added_up([rows], [gradients])
        return (self.owned.peek(distinct) * summed).abs().sum(0)

    def set_rate(self, rate: float, decay: float = 0.0) -> None:
        """Learn at another rate from the next step on; see `GrowableTable`."""
        self.rate, self.decay = rate, decay
        self.owned.set_rate(rate, decay)

    def peek(self, rows: Tensor) -> Tensor:
        """Return float32 [n, width], a copy of `rows`, int64 [n], all of them this rank's."""
        return self.owned.asked(rows // self.ranks.size, learns=False).cpu()

    def freeze(self, rows: Tensor) -> None:
        """Let `rows`, int64, learn nothing from now on; each rank freezes its own."""
        mine = rows[self.ranks.owns(rows)]
        self.owned.freeze(mine // self.ranks.size)

    def thaw(self) -> None:
        """Let every row learn again."""
        self.owned.thaw()

    def take_rows(self, rows: Tensor, values: Tensor) -> None:
        """Let `rows`, int64 [n], be `values`, see `GrowableTable`; each rank takes its own."""
        mine = self.ranks.owns(rows)
        self.owned.take_rows(rows[mine] // self.ranks.size, values[mine])

    def state(self) -> dict[str, Tensor]:
        """Return this rank's rows of the state, by their numbers in the whole table."""
        return self.owned.state()

    def facts(self) -> dict[str, int]:
        """Return what was counted of bounded rows, of all ranks; a call of all ranks together."""
        own = self.owned.facts()
        counts = torch.tensor([*own.values()], dtype=torch.float64)
        self.ranks.sum_in_place([counts] if own else [])
        return {name: int(count) for name, count in zip(own, counts, strict=True)}

    def load_state(self, state: Mapping[str, Rows]) -> None:
        """Load this rank's rows of a whole table's state, in any order; of other rows only the numbers are read."""
        self.clear()
        self.owned.load_state(state)


def _fetched(wanted: Sequence[Wanted], ranks: Ranks) -> list[tuple[Route, Tensor]]:
    """Return the rows of each route's ids in its table, float32 [U, width], in one message; what is not learned from is
    read before anything is seen.
    """
    order = sorted(range(len(wanted)), key=lambda at: wanted[at][2])
    rows_of = {at: wanted[at][0].owned.asked(wanted[at][1].given, wanted[at][2]) for at in order}
    given = [rows_of[at] for at in range(len(wanted))]
    theirs, mine = [route.theirs for _, route, _ in wanted], [route.mine for _, route, _ in wanted]
    found = []
    for (_, route, _), came in zip(wanted, ranks.exchange_all(given, theirs, mine), strict=True):
        rows = torch.empty_like(came)
        rows[route.order.to(came.device)] = came
        found.append((route, rows))
    return found


def bring(wanted: Sequence[Wanted], ranks: Ranks) -> None:
    """Give the tables the rows that they are about to be asked for, in one message; a call of all ranks together."""
    found = _fetched(wanted, ranks) if wanted else []
    for table in {id(table): table for table, _, _ in wanted}.values():
        table.take([one for (of, _, _), one in zip(wanted, found, strict=True) if of is table])


def learn(tables: Sequence[ShardedTable], ranks: Ranks) -> None:
    """Let the owners of all rows that were looked up in these tables learn, in one message; a call of all ranks
    together.
    """
    came = _to_owners([(table, *one) for table in tables for one in table.taken()], ranks)
    for table in tables if came else ():
        own = [(rows, gradient) for of, rows, gradient in came if of is table]
        table.learn([rows for rows, _ in own], [gradient for _, gradient in own])


def products(tables: Sequence[ShardedTable], gradients: Sequence[Tensor | None], ranks: Ranks) -> list[Tensor]:
    """Return of each table float32 [width], |row x gradient| added up over all rows of each lookup since the last step,
    in two messages; gradients: of this rank's `leaves`, one table's after the other's. A call of all ranks together.
    """
    lookups = [(table, *one) for table in tables for one in table.lookups]
    given = [
        (table, route, torch.zeros_like(leaf) if gradient is None else gradient)
        for (table, route, leaf), gradient in zip(lookups, gradients, strict=True)
    ]
    found = [torch.zeros(table.width) for table in tables]
    for table, rows, values in _to_owners(given, ranks):
        found[tables.index(table)] += table.product(rows, values)
    ranks.sum_in_place(found)
    return found


def _to_owners(
    given: Sequence[tuple[ShardedTable, Route, Tensor]], ranks: Ranks
) -> list[tuple[ShardedTable, Tensor, Tensor]]:
    """Return for each lookup this rank's rows, int64 [n], and what all ranks give for them, float32 [n, width], in one
    message, of what this rank gives for its ids, float32 [U, width].
    """
    sent = [values[route.order.to(values.device)] for _, route, values in given]
    mine, theirs = [route.mine for _, route, _ in given], [route.theirs for _, route, _ in given]
    came = ranks.exchange_all(sent, mine, theirs) if given else []
    return [(table, route.given, values) for (table, route, _), values in zip(given, came, strict=True)]


def _chosen(values: Rows, which: Tensor) -> Tensor:
    """Return the rows where `which`, bool [n], is True, reading only the pieces that have any."""
    pieces = [slice(at, at + PIECE) for at in range(0, len(which), PIECE)]
    return torch.cat([values[:0], *(values[piece][which[piece]] for piece in pieces if which[piece].any())])


def spread_tables(module: nn.Module, ranks: Ranks) -> None:
    """Replace every table inside, or the tables that one is made of, by one that is spread over `ranks`; alone, nothing
    changes.
    """
    if ranks.size > 1:
        replace_tables(module, lambda table: _spread(table, ranks))


def _spread(table: GrowableTable, ranks: Ranks) -> GrowableTable:
    if isinstance(table, ComposedTable):
        table.parts = {name: _spread(part, ranks) for name, part in table.parts.items()}
        return table
    return ShardedTable(table, ranks, table.budget if isinstance(table, BoundedTable) else None)


def spread_parts(tables: Sequence[GrowableTable]) -> list[ShardedTable]:
    """Return those of tables, and of what tables are made of, that are spread over ranks."""
    parts = [
        part for table in tables for part in (table.parts.values() if isinstance(table, ComposedTable) else [table])
    ]
    return [part for part in parts if isinstance(part, ShardedTable)]

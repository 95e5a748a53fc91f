"""The lookups of a step in all tables of a network. Of tables that are spread over ranks, ids, rows and gradients
travel in messages of all tables together, and ids in a second thread, ahead of the step: they depend on no weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from torch import Tensor

from recdistill.distributed.ranks import Ranks
from recdistill.models.embeddings.growable import GrowableTable
from recdistill.models.embeddings.modulo import Modulo
from recdistill.models.embeddings.on_device import DeviceTable
from recdistill.models.embeddings.routes import Route, routes_of
from recdistill.models.embeddings.sharded import ShardedTable, bring, learn, spread_parts

__all__ = ["Lookups"]


class Lookups:
    """Which columns a network looks up in which of its tables is seen in the first step that learns: until then every
    lookup is a message of its own, as is later one of anything but a batch's column.

    apart: whether a batch that is learned from is read before, to be predicted.
    """

    def __init__(self, tables: Sequence[GrowableTable], ranks: Ranks, apart: bool = False) -> None:
        self.tables, self.ranks, self.apart = list(tables), ranks, apart
        self.spread = spread_parts(tables)
        self._seen: list[tuple[int, int, Modulo | None]] = []  # (table, column, how its ids share rows)

    @property
    def known(self) -> bool:
        """Return whether ids may be asked for ahead of their step."""
        return not self.spread or bool(self._seen)

    def _asked(self) -> list[tuple[int, Modulo | None]]:
        """Return what is asked for, once each: tables that look up the same column alike have one route."""
        return list(dict.fromkeys((column, modulo) for _, column, modulo in self._seen))

    def ask(self, batches: Sequence[Sequence[Tensor]]) -> list[Route]:
        """Return the routes of batches' columns that will be looked up, int64 [U] each; a call of a second thread, of
        all ranks together.
        """
        asked = [(of[column], modulo) for of in batches for column, modulo in self._asked()]
        return routes_of(asked, replace(self.ranks, group=self.ranks.ahead)) if asked else []

    def bring(self, routes: Sequence[Route], learns: bool) -> None:
        """Bring the rows of these routes, in one message, for the lookups of one step; learns: whether it learns from
        its first batch. Where ids get rows as they are learned from, what is read before is not what is learned from.
        """
        asked = self._asked()
        wanted = [
            (self.spread[table], route, learning)
            for table, column, modulo in self._seen
            for number, route in enumerate(routes[asked.index((column, modulo)) :: len(asked)])
            for learning in self._ways(self.spread[table], learns and not number)
        ]
        bring(wanted, self.ranks)

    def know(self, sent: Sequence[tuple[Tensor, Tensor]]) -> None:
        """Let the tables on a device know which ids of a step, int64 [U] on the host and there, were sent ahead."""
        for table in self.tables:
            if isinstance(table, DeviceTable):
                table.know(sent)

    def _ways(self, table: ShardedTable, learns: bool) -> tuple[bool, ...]:
        """Return how a column's rows are brought: to read them, to learn from them, or both, one after the other."""
        return (False, True) if learns and self.apart and table.bounded else (learns,)

    def step(self, columns: Sequence[Tensor]) -> None:
        """Let every table learn from the step's lookups, once; columns: those of the batch."""
        if self.spread and not self._seen:
            self._seen = [
                (at, number, modulo)
                for at, table in enumerate(self.spread)
                for number, column in enumerate(columns)
                for modulo in dict.fromkeys(of for unique, of in table.looked_up() if unique is column)
            ]
        learn(self.spread, self.ranks)
        for table in () if self.spread else self.tables:
            table.step()

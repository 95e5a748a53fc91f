"""The lookups of a step in all tables of a network. Of tables that are spread over ranks, ids, rows and gradients
travel in messages of all tables together, and ids in a second thread, ahead of the step: they depend on no weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from torch import Tensor

from recdistill.distributed.ranks import Ranks
from recdistill.models.embeddings.growable import GrowableTable
from recdistill.models.embeddings.on_device import DeviceTable
from recdistill.models.embeddings.routes import Route, routes_of
from recdistill.models.embeddings.sharded import ShardedTable, bring, learn

__all__ = ["Lookups"]


class Lookups:
    """Which columns a network looks up in which of its tables is seen in the first step that learns: until then every
    lookup is a message of its own, as is later one of anything but a batch's column.
    """

    def __init__(self, tables: Sequence[GrowableTable], ranks: Ranks) -> None:
        self.tables, self.ranks = list(tables), ranks
        self.spread = [table for table in tables if isinstance(table, ShardedTable)]
        self._seen: list[tuple[int, int]] = []  # (table, column)

    @property
    def known(self) -> bool:
        """Return whether ids may be asked for ahead of their step."""
        return not self.spread or bool(self._seen)

    @property
    def _columns(self) -> list[int]:
        return sorted({column for _, column in self._seen})

    def ask(self, batches: Sequence[Sequence[Tensor]]) -> list[Route]:
        """Return the routes of batches' columns that will be looked up, int64 [U] each; a call of a second thread, of
        all ranks together.
        """
        asked = [of[column] for of in batches for column in self._columns]
        return routes_of(asked, replace(self.ranks, group=self.ranks.ahead)) if asked else []

    def bring(self, routes: Sequence[Route], learns: bool) -> None:
        """Bring the rows of these routes, in one message, for the lookups of one step; learns: whether it learns from
        its first batch.
        """
        columns = self._columns
        wanted = [
            (self.spread[table], route, learns and not number)
            for table, column in self._seen
            for number, route in enumerate(routes[columns.index(column) :: len(columns)])
        ]
        bring(wanted, self.ranks)

    def know(self, sent: Sequence[tuple[Tensor, Tensor]]) -> None:
        """Let the tables on a device know which ids of a step, int64 [U] on the host and there, were sent ahead."""
        for table in self.tables:
            if isinstance(table, DeviceTable):
                table.know(sent)

    def step(self, columns: Sequence[Tensor]) -> None:
        """Let every table learn from the step's lookups, once; columns: those of the batch."""
        if self.spread and not self._seen:
            self._seen = [
                (at, number)
                for at, table in enumerate(self.spread)
                for number, column in enumerate(columns)
                if any(column is unique for unique in table.looked_up())
            ]
        learn(self.spread, self.ranks)
        for table in self.tables:
            if not isinstance(table, ShardedTable):
                table.step()

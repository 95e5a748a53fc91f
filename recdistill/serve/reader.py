"""A request as arrays: ids to rows, values to the fields that the student learned, the history as it was known then.

Everything a batch of training had is made here again of one user and C candidates, by the same rules; a test compares
the two. Shapes: C candidates, L events at most, F context fields, M list slots, U rows of a look-up.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from recdistill.data.batch.numbers import COUNTS, NUMBERS
from recdistill.data.batch.repeats import repeats_of_one
from recdistill.defaults import NEW_ROW_TIME
from recdistill.errors import UserError, did_you_mean
from recdistill.serve.artefact import Artefact
from recdistill.serve.features import PADDING, Features, Placed, placed
from recdistill.serve.past import Events, Kind, newest
from recdistill.serve.request import MOST_CANDIDATES, SHOWN, Past, Request
from recdistill.serve.together import groups
from recdistill.serve.values import known_ids, microseconds, shown
from recdistill.serve.vectors import VectorReader
from recdistill.typing import Array

__all__ = ["Reader"]

HISTORY = "history"


class Reader:
    """Reads requests for one artefact; what does not change between requests is made once."""

    def __init__(self, artefact: Artefact) -> None:
        self.artefact, self.features, self.vectors = artefact, Features(artefact), VectorReader(artefact)
        self.actions = {name: code for code, name in enumerate(artefact.manifest.actions)}
        self.tables = {
            at: _plain(table) if isinstance(table, np.ndarray) else table for at, table in artefact.tables.items()
        }
        self.user_numbers, self.item_numbers = _plain(artefact.user_numbers), _plain(artefact.item_numbers)
        self.sequences = {name: f"sequence_{at}" for at, name in enumerate(artefact.schema.sequences)}
        self.kinds = {HISTORY: Kind(HISTORY, artefact.schema.timed, len(self.actions))}
        self.kinds |= {name: Kind(f"sequences.{name}", timed, 0) for name, timed in artefact.schema.sequences.items()}

    def arrays(self, request: Request) -> dict[str, Array]:
        """Return the graph's inputs by name. Raises UserError, which names the field, for what cannot be read."""
        n, now = _candidates(request), microseconds(request.time, "time")
        now = now if self.artefact.schema.times else NEW_ROW_TIME
        pasts = self._pasts(request, now)
        item, events = self._items(request, pasts)
        user, past = self._user(request), pasts[HISTORY]
        origin = Past().origin if request.history is None else request.history.origin
        context, lists, values = self.features.read(request, now)
        columns = {
            "item": Placed(np.concatenate((PADDING, item)), placed(item)),
            "user": Placed(np.array([0, user]), np.full(n, int(user > 0))),
            "context": context,
            "lists": lists,
        }
        for name, of in events.items():
            columns[self.sequences.get(name, name)] = Placed(
                np.concatenate((PADDING, of)), self._padded(placed(of), len(of))
            )
        return {
            **self._looked_up(columns),
            **self._moments(pasts),
            "action": self._padded(self._codes(past.actions, origin), len(past.ago)),
            **groups([n]),
            "numbers": self._numbers(user, item, events[HISTORY], past.ago),
            "values": values,
            **self.vectors.read(request),
        }

    def _pasts(self, request: Request, now: int) -> dict[str, Events]:
        """Return the newest events of the history, and of each sequence by its name."""
        length = self.artefact.manifest.history
        for name in request.sequences:
            if name not in self.sequences:
                hint = did_you_mean(name[:SHOWN], self.sequences)
                raise UserError(f"sequences: there is no sequence {shown(name)}{hint}")
        given = {HISTORY: request.history or Past(), **request.sequences}
        return {name: newest(given.get(name, Past()), kind, now, length) for name, kind in self.kinds.items()}

    def _items(self, request: Request, pasts: Mapping[str, Events]) -> tuple[Array, dict[str, Array]]:
        """Return (int64 [C], the index of each candidate; the same of the events by name)."""
        fields = [(f"{self.kinds[name].field}.items", past.items) for name, past in pasts.items()]
        found = known_ids([("items", request.items), *fields], self.artefact.schema.item_id, self.artefact.items)
        at, events = len(request.items), {}
        for name, past in pasts.items():
            events[name], at = found[at : at + len(past.ago)], at + len(past.ago)
        return found[: len(request.items)], events

    def _padded(self, values: Array | Sequence[int] | int, count: int) -> Array:
        """Return int64 [1, L], the first `count` as given."""
        found = np.zeros((1, self.artefact.manifest.history), np.int64)
        found[0, :count] = values
        return found

    def _moments(self, pasts: Mapping[str, Events]) -> dict[str, Array]:
        """Return how long ago all events were, and how many there are."""
        found = {}
        for name, past in pasts.items():
            prefix = "" if name == HISTORY else f"{self.sequences[name]}_"
            found[f"{prefix}ago"] = self._padded(past.ago, len(past.ago))
            found[f"{prefix}events"] = np.array([len(past.ago)])
        return found

    def _user(self, request: Request) -> int:
        if request.user is None:
            return 0
        return int(known_ids((("user", [request.user]),), self.artefact.schema.user_id, self.artefact.users)[0])

    def _codes(self, names: Sequence[Any], origin: str) -> list[int] | int:
        """Return the codes of actions; of a kept history one that the model does not know counts as its first, as in
        training.
        """
        if origin == "kept":
            return [self.actions.get(name, 0) for name in names] or 0
        try:
            return [*map(self.actions.__getitem__, names)] or 0
        except (KeyError, TypeError):
            wrong = next(name for name in names if name not in list(self.actions))
            raise UserError(
                f"history.actions: one of {', '.join(self.actions)} was expected; got {shown(wrong)}"
            ) from None

    def _numbers(self, user: int, item: Array, event: Array, ago: Array) -> Array:
        """Return float32 [C, X], as training had them; see data/batch/numbers.py."""
        n, read = len(item), self.artefact.manifest.numbers
        found = np.zeros((n, NUMBERS), np.float32)
        if "counts" in read:
            found[:, :2], found[:, 2:COUNTS] = self.user_numbers[user], self.item_numbers.take(item, 0)
        if "repeats" in read:
            found[:, COUNTS:] = repeats_of_one(item, event, ago)
        return found

    def _looked_up(self, columns: dict[str, Placed]) -> dict[str, Array]:
        inputs = {name: column.places for name, column in columns.items()}
        inputs |= {f"ids_{name}": column.ids for name, column in columns.items()}
        for number, (table, column, _) in enumerate(self.artefact.manifest.look_ups):
            rows, ids = self.tables[table], columns[column].ids
            inputs[f"rows_{number}"] = rows.take(ids, 0) if isinstance(rows, np.ndarray) else rows[ids]
        return inputs


def _plain(rows: Array) -> Array:
    """Return rows without the class of memory maps, which costs microseconds each time it is indexed."""
    return rows.view(np.ndarray) if isinstance(rows, np.memmap) else rows


def _candidates(request: Request) -> int:
    n = len(request.items)
    if not 0 < n <= MOST_CANDIDATES:
        raise UserError(f"items: give 1 to {MOST_CANDIDATES:,} candidates; got {n:,}")
    for name, values in request.item_features.items():
        if len(values) != n:
            raise UserError(
                f"item_features.{name[:SHOWN]}: a value per candidate was expected, {n:,}; got {len(values):,}"
            )
    return n

"""A request as arrays: ids to rows, values to the fields that the student learned, the history as it was known then.

Everything a batch of training had is made here again of one user and C candidates, by the same rules; a test compares
the two. Shapes: C candidates, L events at most, F context fields, M list slots, U rows of a look-up.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from recdistill.data.batch.numbers import COUNTS, numbers_of
from recdistill.data.batch.repeats import REPEATS, repeats_of_one
from recdistill.errors import UserError
from recdistill.serve.artefact import Artefact
from recdistill.serve.features import Features, Placed, placed
from recdistill.serve.request import MOST_CANDIDATES, SHOWN, Past, Request
from recdistill.serve.together import groups
from recdistill.serve.values import known_ids, microseconds, shown, times_of
from recdistill.typing import Array

__all__ = ["Reader"]

PADDING = np.zeros(1, np.int64)


class _Events(NamedTuple):
    """The newest events strictly before the request, oldest first: their items as given, ago in us and actions'
    codes, int64 [E].
    """

    items: Sequence[Any]
    ago: Array
    action: Any


class Reader:
    """Reads requests for one artefact; what does not change between requests is made once."""

    def __init__(self, artefact: Artefact) -> None:
        self.artefact, self.features = artefact, Features(artefact)
        self.actions = {name: code for code, name in enumerate(artefact.manifest.actions)}
        self.tables = [_plain(table) for table in artefact.tables]
        self.user_counts, self.item_counts = _plain(artefact.user_counts), _plain(artefact.item_counts)

    def arrays(self, request: Request) -> dict[str, Array]:
        """Return the graph's inputs by name. Raises UserError, which names the field, for what cannot be read."""
        n, schema, length = _candidates(request), self.artefact.schema, self.artefact.manifest.history
        now = microseconds(request.time, "time")
        past = self._past(request.history or Past(), now)
        both = known_ids((("items", request.items), ("history.items", past.items)), schema.item_id, self.artefact.items)
        item, event = both[:n], both[n:]
        user = self._user(request)
        context, lists, values = self.features.read(request, now)
        padded = np.zeros((3, 1, length), np.int64)
        for row, known in zip(padded, (placed(event, 1), past.ago, past.action), strict=True):
            row[0, : len(event)] = known
        columns = {
            "item": Placed(np.concatenate((PADDING, item)), placed(item, 1)),
            "user": Placed(np.array([0, user]), np.full(n, int(user > 0))),
            "context": context,
            "lists": lists,
            "history": Placed(np.concatenate((PADDING, event)), padded[0]),
        }
        return {
            **self._looked_up(columns),
            "ago": padded[1],
            "action": padded[2],
            "events": np.array([len(event)]),
            **groups([n]),
            "numbers": self._numbers(user, item, event, past.ago),
            "values": values,
        }

    def _user(self, request: Request) -> int:
        if request.user is None:
            return 0
        return int(known_ids((("user", [request.user]),), self.artefact.schema.user_id, self.artefact.users)[0])

    def _past(self, past: Past, now: int) -> _Events:
        length = self.artefact.manifest.history
        _same_length(past, len(self.actions))
        times = times_of(past.times, "history.times")
        if len(times) and times[-1] < now and (times[1:] >= times[:-1]).all():  # as most callers send it
            chosen = slice(max(len(times) - length, 0), None)
            items, names = past.items[chosen], past.actions[chosen]
            return _Events(items, now - times[chosen], self._codes(names))
        order = np.argsort(times, kind="stable")
        order = order[times[order] < now][-length:]
        names = [past.actions[at] for at in order] if past.actions else ()
        return _Events([past.items[at] for at in order], now - times[order], self._codes(names))

    def _codes(self, names: Sequence[Any]) -> list[int] | int:
        try:
            return [self.actions[name] for name in names] or 0
        except (KeyError, TypeError):
            wrong = next(name for name in names if name not in list(self.actions))
            raise UserError(
                f"history.actions: one of {', '.join(self.actions)} was expected; got {shown(wrong)}"
            ) from None

    def _numbers(self, user: int, item: Array, event: Array, ago: Array) -> Array:
        """Return float32 [C, X], as training had them; see `numbers_of`."""
        n, read = len(item), self.artefact.manifest.numbers
        counts = np.zeros((n, COUNTS), np.int32)
        if "counts" in read:
            counts[:, :2], counts[:, 2:] = self.user_counts[user], self.item_counts[item]
        again = np.zeros((n, REPEATS), np.float32)
        if "repeats" in read:
            again = repeats_of_one(item, event, ago)
        return numbers_of(counts, again)

    def _looked_up(self, columns: dict[str, Placed]) -> dict[str, Array]:
        inputs = {name: column.places for name, column in columns.items()}
        for number, (table, column, _) in enumerate(self.artefact.manifest.look_ups):
            inputs[f"rows_{number}"] = self.tables[table][columns[column].ids]
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


def _same_length(past: Past, kinds: int) -> None:
    events = len(past.items)
    if len(past.times) != events:
        raise UserError(f"history.times: a time per item was expected, {events:,}; got {len(past.times):,}")
    if len(past.actions) != events and (past.actions or kinds > 1):
        raise UserError(f"history.actions: an action per item was expected, {events:,}; got {len(past.actions):,}")

"""A request as arrays: ids to rows, values to the fields that the student learned, the history as it was known then.

Everything a batch of training had is made here again of one user and C candidates, by the same rules; a test compares
the two. Shapes: C candidates, L events at most, F context fields, M list slots.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import numpy as np

from recdistill.data.batch.numbers import COUNTS, numbers_of
from recdistill.data.batch.repeats import REPEATS, repeats
from recdistill.data.buckets import ANY_SCALE, bucket_of
from recdistill.data.keys import context_key
from recdistill.defaults import SECOND
from recdistill.errors import UserError, did_you_mean
from recdistill.serve.artefact import Artefact
from recdistill.typing import Array

__all__ = ["Event", "Request", "arrays_of"]

INT64 = 1 << 63
MOST_CANDIDATES = 10_000
Id = int | str


@dataclass(frozen=True)
class Event:
    """Something the user did before: the item, when (seconds since 1970), what kind of action."""

    item: Id
    time: float
    action: str | None = None


@dataclass(frozen=True)
class Request:
    """One user, many candidates. time: seconds since 1970; features: of the user and the moment, for all candidates;
    candidate_features: per candidate, before those; history: oldest first or not; what is not before `time` is left
    out.
    """

    user: Id | None
    items: Sequence[Id]
    time: float
    features: Mapping[str, Any] = field(default_factory=dict)
    candidate_features: Sequence[Mapping[str, Any]] = ()
    history: Sequence[Event] = ()


def arrays_of(request: Request, artefact: Artefact) -> dict[str, Array]:
    """Return the graph's inputs by name. Raises UserError, which names the field, for what cannot be read."""
    schema, n = artefact.schema, len(request.items)
    if not 0 < n <= MOST_CANDIDATES:
        raise UserError(f"items: give 1 to {MOST_CANDIDATES:,} candidates; got {n:,}")
    if request.candidate_features and len(request.candidate_features) != n:
        raise UserError(f"candidate_features: one per candidate, {n:,}; got {len(request.candidate_features):,}")
    now = _microseconds(request.time, "time")
    user = _ids([request.user], schema.user_id, "user", artefact.users) if request.user is not None else np.zeros(1, int)
    item = _ids(request.items, schema.item_id, "items", artefact.items)
    context, lists = _features(request, artefact, now)
    past = _history(request, artefact, now)
    columns = {"item": item, "user": np.repeat(user, n), "context": context, "lists": lists, "history": past["item"]}
    return {
        **_gathered(columns, artefact),
        "ago": past["ago"],
        "action": past["action"],
        "events": past["events"],
        "numbers": _numbers(user, item, past, artefact),
    }


def _ids(values: Sequence[Any], kind: str, what: str, known: Any) -> Array:
    return np.asarray(known.places([_id(value, kind, what) for value in values]))


def _id(value: Any, kind: str, what: str) -> Id:
    """Return an id as the tables have it: a whole number may come as 12, 12.0 or "12"; text as it is written."""
    if kind == "string":
        if isinstance(value, str) or (isinstance(value, int) and not isinstance(value, bool)):
            return str(value)
        raise UserError(f"{what}: an id of text was expected; got {_shown(value)}")
    try:
        if isinstance(value, bool) or (isinstance(value, float) and not value.is_integer()):
            raise ValueError
        number = int(value)
    except (ValueError, TypeError, OverflowError):
        raise UserError(f"{what}: a whole number was expected; got {_shown(value)}") from None
    if not -INT64 <= number < INT64:
        raise UserError(f"{what}: a whole number of 64 bits was expected; got {_shown(value)}")
    return number


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:40]}..."


def _microseconds(seconds: Any, what: str) -> int:
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not math.isfinite(seconds):
        raise UserError(f"{what}: seconds since 1970 were expected; got {_shown(seconds)}")
    if not 0 <= seconds < 253_402_300_800:
        raise UserError(f"{what}: seconds since 1970 were expected, before the year 10000; got {_shown(seconds)}")
    return round(seconds * SECOND)


def _features(request: Request, artefact: Artefact, now: int) -> tuple[Array, Array]:
    """Return (int64 [C, F], int64 [C, M]) indices of the context vocabulary; the first field is the hour of day."""
    schema, n = artefact.schema, len(request.items)
    each = list(request.candidate_features) or [{}] * n
    for given in (request.features, *each):
        for name in given:
            if name not in schema.features:
                raise UserError(f"features: there is no feature '{name}'{did_you_mean(name, schema.features)}")
    keys = _Keys(artefact)
    hour = context_key("", datetime.fromtimestamp(now // SECOND, UTC).hour)
    scalars, slots = [[keys.place(hour)] * n], list[list[list[int]]]()
    for name, kind in schema.features.items():
        values = [one.get(name, request.features.get(name)) for one in each]
        if kind.startswith("list"):
            slots.append([keys.of_list(name, kind, value, schema.list_length) for value in values])
        else:
            scalars.append([keys.of_scalar(name, kind, value) for value in values])
    found = keys.found()
    context = found[np.array(scalars, np.int64).T]
    lists = found[np.array(slots, np.int64).transpose(1, 0, 2).reshape(n, -1)] if slots else np.zeros((n, 0), np.int64)
    return context, lists


class _Keys:
    """The distinct keys of a request, looked up all at once; 0 is the padding."""

    def __init__(self, artefact: Artefact) -> None:
        self.artefact, self.places_of = artefact, {"": 0}

    def place(self, key: str) -> int:
        """Return the place of a key in `found`."""
        return self.places_of.setdefault(key, len(self.places_of))

    def found(self) -> Array:
        """Return int64 [distinct keys], the index of each in the vocabulary."""
        _, *keys = self.places_of
        return np.concatenate((np.zeros(1, np.int64), self.artefact.context.places(keys)))

    def of_scalar(self, name: str, kind: str, value: Any) -> int:
        """Return the place of a feature's value."""
        if kind == "float32":
            number = np.array([_number(value, f"features.{name}")])
            edges = self.artefact.schema.edges.get(name, ANY_SCALE)
            return self.place(context_key(name, int(bucket_of(number, edges)[0])))
        return self.place(context_key(name, "" if value is None else _id(value, kind, f"features.{name}")))

    def of_list(self, name: str, kind: str, value: Any, length: int) -> list[int]:
        """Return `length` places of a list's newest entries, 0 behind them."""
        if value is not None and (isinstance(value, str) or not isinstance(value, Sequence)):
            raise UserError(f"features.{name}: a list was expected; got {_shown(value)}")
        entries = [one for one in value or () if one is not None][-length:]
        inner = kind.removeprefix("list<").removesuffix(">")
        return [self.place(context_key(name, _id(one, inner, f"features.{name}"))) for one in entries] + [0] * (length - len(entries))


def _number(value: Any, what: str) -> float:
    if value is None:
        return math.nan
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise UserError(f"{what}: a number was expected; got {_shown(value)}")
    with np.errstate(over="ignore"):
        return float(np.float32(value))


def _history(request: Request, artefact: Artefact, now: int) -> dict[str, Array]:
    """Return the newest events strictly before `now`, oldest first, padded: item, ago (us), action int64 [L], and how
    many there are, int64 [1].
    """
    length, actions = artefact.manifest.history, artefact.manifest.actions
    times = np.array([_microseconds(one.time, "history.time") for one in request.history], np.int64)
    order = np.argsort(times, kind="stable")
    order = order[times[order] < now][-length:]
    events = [request.history[at] for at in order]
    item = _ids([one.item for one in events], artefact.schema.item_id, "history.item", artefact.items)
    codes = [_action(one.action, actions) for one in events]
    padded = np.zeros((3, length), np.int64)
    for row, values in zip(padded, (item, now - times[order], codes), strict=True):
        row[: len(events)] = values
    return {"item": padded[0], "ago": padded[1], "action": padded[2], "events": np.array([len(events)])}


def _action(name: str | None, actions: Sequence[str]) -> int:
    if name is None and len(actions) <= 1:
        return 0
    if name not in actions:
        raise UserError(f"history.action: one of {', '.join(actions)} was expected; got {_shown(name)}")
    return actions.index(name)


def _numbers(user: Array, item: Array, past: dict[str, Array], artefact: Artefact) -> Array:
    """Return float32 [C, X], as training had them; see `numbers_of`."""
    n, read = len(item), artefact.manifest.numbers
    counts = np.zeros((n, COUNTS), np.int32)
    if "counts" in read:
        counts = np.concatenate((np.repeat(artefact.user_counts[user], n, 0), artefact.item_counts[item]), 1)
    again = np.zeros((n, REPEATS), np.float32)
    if "repeats" in read:
        events = int(past["events"][0])
        scratch = np.zeros(int(max(item.max(), past["item"].max())) + 1, np.int64)
        offsets = np.array([0, events])
        again = repeats(item, np.zeros(n, np.int64), past["item"][:events], past["ago"][:events], offsets, scratch)
    return numbers_of(counts, again)


def _gathered(columns: dict[str, Array], artefact: Artefact) -> dict[str, Array]:
    """Return the columns as places among their distinct ids, and the rows of those per look-up."""
    inputs: dict[str, Array] = {}
    distinct = {}
    for name, ids in columns.items():
        unique, place = np.unique(np.append(ids.ravel(), 0), return_inverse=True)  # 0, the padding, comes first
        distinct[name], inputs[name] = unique, place[:-1].reshape(ids.shape).astype(np.int64)
    for number, (table, column, _) in enumerate(artefact.manifest.look_ups):
        inputs[f"rows_{number}"] = artefact.tables[table][distinct[column]]
    return inputs

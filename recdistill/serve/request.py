"""A request as arrays: ids to rows, values to the fields that the student learned, the history as it was known then.

Everything a batch of training had is made here again of one user and C candidates, by the same rules; a test compares
the two. Shapes: C candidates, L events at most, F context fields, M list slots.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Any

import numpy as np

from recdistill.data.batch.numbers import COUNTS, numbers_of
from recdistill.data.batch.repeats import REPEATS, repeats
from recdistill.data.buckets import ANY_SCALE, bucket_of
from recdistill.data.keys import context_key
from recdistill.data.scales import ANY_VALUE, scaled
from recdistill.defaults import SECOND
from recdistill.errors import UserError, did_you_mean
from recdistill.serve.artefact import Artefact
from recdistill.serve.id_map import IdMap
from recdistill.typing import Array

__all__ = ["MOST_CANDIDATES", "SHOWN", "Id", "Past", "Request", "arrays_of"]

INT64 = 1 << 63
MOST_CANDIDATES = 10_000
WHOLE = re.compile(r"[+-]?[0-9]+")
SHOWN = 40  # characters of what was given, in a refusal
LAST = 253_402_300_800  # the year 10000, in seconds
Id = int | str | float  # a whole number may come as 12.0


@dataclass(frozen=True)
class Past:
    """What the user did before, event by event: the items, when (seconds since 1970), and what kind of action each was;
    actions: empty where there is but one kind.
    """

    items: Sequence[Id] = ()
    times: Sequence[float] = ()
    actions: Sequence[str] = ()


@dataclass(frozen=True)
class Request:
    """One user, many candidates. time: seconds since 1970; features: of the user and the moment, for all candidates;
    item_features: name -> a value per candidate, before those; history: in any order; what is not before `time` is left
    out; None: the request brings none, and a server takes what it keeps of the user.
    """

    user: Id | None
    items: Sequence[Id]
    time: float
    features: Mapping[str, Any] = field(default_factory=dict)
    item_features: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    history: Past | None = None


def arrays_of(request: Request, artefact: Artefact) -> dict[str, Array]:
    """Return the graph's inputs by name. Raises UserError, which names the field, for what cannot be read."""
    schema, n = artefact.schema, len(request.items)
    if not 0 < n <= MOST_CANDIDATES:
        raise UserError(f"items: give 1 to {MOST_CANDIDATES:,} candidates; got {n:,}")
    for name, values in request.item_features.items():
        if len(values) != n:
            raise UserError(
                f"item_features.{name[:SHOWN]}: a value per candidate was expected, {n:,}; got {len(values):,}"
            )
    now = _microseconds(request.time, "time")
    user = (
        _ids([request.user], schema.user_id, "user", artefact.users) if request.user is not None else np.zeros(1, int)
    )
    item = _ids(request.items, schema.item_id, "items", artefact.items)
    numeric = _numeric(request, artefact)
    context, lists = _features(request, artefact, now, numeric)
    past = _history(request, artefact, now)
    columns = {"item": item, "user": np.repeat(user, n), "context": context, "lists": lists, "history": past["item"]}
    return {
        **_gathered(columns, artefact),
        "ago": past["ago"],
        "action": past["action"],
        "events": past["events"],
        "numbers": _numbers(user, item, past, artefact),
        "values": _values(numeric, artefact, n),
    }


def _ids(values: Sequence[Any], kind: str, what: str, known: IdMap) -> Array:
    """Return int64 [n], the index of each id, 0 for one that was never seen."""
    if kind == "int64" and set(map(type, values)) == {int}:  # what most requests hold, all at once
        with suppress(OverflowError):
            return known.places(np.array(values, np.int64))
    return known.places([_id(value, kind, what) for value in values])


def _id(value: Any, kind: str, what: str) -> int | str:
    """Return an id as the tables have it: a whole number may come as 12, 12.0 or "12"; text as it is written."""
    if kind == "string":
        if isinstance(value, str) or (isinstance(value, int) and not isinstance(value, bool)):
            return str(value)
        raise UserError(f"{what}: an id of text was expected; got {_shown(value)}")
    try:
        if isinstance(value, bool) or (isinstance(value, float) and not value.is_integer()):
            raise ValueError
        if isinstance(value, str) and not WHOLE.fullmatch(value):
            raise ValueError
        number = int(value)
    except (ValueError, TypeError, OverflowError):
        raise UserError(f"{what}: a whole number was expected; got {_shown(value)}") from None
    if not -INT64 <= number < INT64:
        raise UserError(f"{what}: a whole number of 64 bits was expected; got {_shown(value)}")
    return number


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."


def _times(seconds: Sequence[Any], what: str) -> Array:
    """Return int64 us of times in seconds."""
    if set(map(type, seconds)) <= {int, float}:
        with suppress(OverflowError):  # a whole number that no float holds is refused below, by its value
            found = np.array(seconds, np.float64)
            if ((found >= 0) & (found < LAST)).all():
                return np.rint(found * SECOND).astype(np.int64)
    return np.array([_microseconds(one, what) for one in seconds], np.int64)


def _microseconds(seconds: Any, what: str) -> int:
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or seconds != seconds:
        raise UserError(f"{what}: seconds since 1970 were expected; got {_shown(seconds)}")
    if not 0 <= seconds < LAST:
        raise UserError(f"{what}: seconds since 1970 were expected, before the year 10000; got {_shown(seconds)}")
    return round(seconds * SECOND)


def _numeric(request: Request, artefact: Artefact) -> dict[str, Array]:
    """Return float64 [C] or [1] of each numeric feature, as the tables hold it: of seven digits, NaN where missing."""
    names = [name for name, kind in artefact.schema.features.items() if kind == "float32"]
    given = {name: request.item_features.get(name, [request.features.get(name)]) for name in names}
    with np.errstate(over="ignore"):
        return {
            name: np.array([_number(one, f"features.{name}") for one in values], np.float32).astype(np.float64)
            for name, values in given.items()
        }


def _values(numeric: Mapping[str, Array], artefact: Artefact, n: int) -> Array:
    """Return float32 [C, W], the numeric features as values; zeros where the model reads but their buckets."""
    scales = artefact.schema.scales
    found = [np.broadcast_to(scaled(one, scales.get(name, ANY_VALUE)), (n, 2)) for name, one in numeric.items()]
    values = np.hstack(found) if found else np.zeros((n, 0), np.float32)
    return np.zeros_like(values) if artefact.manifest.numeric_as == "buckets" else values


def _features(request: Request, artefact: Artefact, now: int, numeric: Mapping[str, Array]) -> tuple[Array, Array]:
    """Return (int64 [C, F], int64 [C, M]) indices of the context vocabulary; the first field is the hour of day."""
    schema, n = artefact.schema, len(request.items)
    for group, given in (("features", request.features), ("item_features", request.item_features)):
        for name in given:
            if name not in schema.features:
                raise UserError(
                    f"{group}: there is no feature {_shown(name)}{did_you_mean(name[:SHOWN], schema.features)}"
                )
    keys = _Keys(artefact)
    hour = context_key("", datetime.fromtimestamp(now // SECOND, UTC).hour)
    scalars, slots = [[keys.place(hour)] * n], list[list[list[int]]]()
    for name, kind in schema.features.items():
        values = request.item_features.get(name)
        if kind.startswith("list"):
            of_list = partial(keys.of_list, name, kind, length=schema.list_length)
            slots.append([of_list(request.features.get(name))] * n if values is None else [of_list(v) for v in values])
        else:
            if name in numeric:
                places = keys.of_numbers(name, numeric[name])
            else:
                places = keys.of_scalars(name, kind, [request.features.get(name)] if values is None else values)
            scalars.append(places * n if len(places) < n else places)
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

    def of_scalars(self, name: str, kind: str, values: Sequence[Any]) -> list[int]:
        """Return the place of each of a feature's values."""
        what = f"features.{name}"
        return [self.place(context_key(name, "" if one is None else _id(one, kind, what))) for one in values]

    def of_numbers(self, name: str, values: Array) -> list[int]:
        """Return the place of each number's bucket; the padding where the model does not read it."""
        if self.artefact.manifest.numeric_as == "values":
            return [0] * len(values)
        edges = self.artefact.schema.edges.get(name, ANY_SCALE)
        return [self.place(context_key(name, bucket)) for bucket in bucket_of(values, edges).tolist()]

    def of_list(self, name: str, kind: str, value: Any, length: int) -> list[int]:
        """Return `length` places of a list's newest entries, 0 behind them."""
        if value is not None and (isinstance(value, str) or not isinstance(value, Sequence)):
            raise UserError(f"features.{name}: a list was expected; got {_shown(value)}")
        entries = [one for one in value or () if one is not None][-length:]
        inner = kind.removeprefix("list<").removesuffix(">")
        return [self.place(context_key(name, _id(one, inner, f"features.{name}"))) for one in entries] + [0] * (
            length - len(entries)
        )


def _number(value: Any, what: str) -> float:
    if value is None:
        return math.nan
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise UserError(f"{what}: a number was expected; got {_shown(value)}")
    try:
        number = float(value)
    except OverflowError:
        raise UserError(f"{what}: a number of 64 bits was expected; got {_shown(value)}") from None
    if math.isinf(number):
        raise UserError(f"{what}: a finite number was expected, or null; got {_shown(value)}")
    return number


def _history(request: Request, artefact: Artefact, now: int) -> dict[str, Array]:
    """Return the newest events strictly before `now`, oldest first, padded: item, ago (us), action int64 [L], and how
    many there are, int64 [1].
    """
    length, actions = artefact.manifest.history, artefact.manifest.actions
    past = request.history or Past()
    _same_length(past, len(actions))
    times = _times(past.times, "history.times")
    order = np.argsort(times, kind="stable")
    order = order[times[order] < now][-length:]
    item = _ids([past.items[at] for at in order], artefact.schema.item_id, "history.items", artefact.items)
    codes = [_action(past.actions[at], actions) for at in order] if past.actions else 0
    padded = np.zeros((3, length), np.int64)
    for row, values in zip(padded, (item, now - times[order], codes), strict=True):
        row[: len(order)] = values
    return {"item": padded[0], "ago": padded[1], "action": padded[2], "events": np.array([len(order)])}


def _same_length(past: Past, kinds: int) -> None:
    events = len(past.items)
    if len(past.times) != events:
        raise UserError(f"history.times: a time per item was expected, {events:,}; got {len(past.times):,}")
    if len(past.actions) != events and (past.actions or kinds > 1):
        raise UserError(f"history.actions: an action per item was expected, {events:,}; got {len(past.actions):,}")


def _action(name: Any, actions: Sequence[str]) -> int:
    if name not in actions:
        raise UserError(f"history.actions: one of {', '.join(actions)} was expected; got {_shown(name)}")
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

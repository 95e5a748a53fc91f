"""A request: one user and many candidates, as a caller gives it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from recdistill.typing import Array

__all__ = ["MOST_CANDIDATES", "SHOWN", "Column", "Id", "Past", "Request"]

MOST_CANDIDATES = 10_000
SHOWN = 40  # characters of what was given, in a refusal
Id = int | str | float  # a whole number may come as 12.0
Column = Sequence[Any] | Array  # many values; an array of numbers is read as it is


@dataclass(frozen=True)
class Past:
    """What the user did before, event by event: the items, when (seconds since 1970), and what kind of action each was;
    actions: empty where there is but one kind; known: since when each counts, as training orders them; empty: since it
    happened. origin: request, or of what a server keeps: kept, none (nothing of this user), away (not to be had now).
    """

    items: Column = ()
    times: Column = ()
    actions: Sequence[str] = ()
    known: Column = ()
    origin: str = "request"


@dataclass(frozen=True)
class Request:
    """One user, many candidates. time: seconds since 1970; features: of the user and the moment, for all candidates;
    item_features: name -> a value per candidate, before those; history: in any order; what is not before `time` is left
    out; None: the request brings none, and a server takes what it keeps of the user.
    """

    user: Id | None
    items: Column
    time: float
    features: Mapping[str, Any] = field(default_factory=dict)
    item_features: Mapping[str, Column] = field(default_factory=dict)
    history: Past | None = None
    sequences: Mapping[str, Past] = field(default_factory=dict)

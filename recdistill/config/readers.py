"""The readers by name, and what the published logs among them do not have."""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal

__all__ = ["ReaderName", "lacking"]

ReaderName = Literal[
    "simulator",
    "table",
    "movielens",
    "kuairand",
    "mind",
    "globo",
    "trivago",
    "taobao",
    "amazon-reviews",
    "kuairec",
    "criteo",
    "criteo-x4",
    "avazu",
    "avazu-x4",
    "taobao-ads",
    "kuaivideo",
    "tenrec",
    "yambda",
    "eb-nerd",
    "open-bandit",
]
LACKING: dict[str, tuple[str, ...]] = {
    "criteo": ("user", "time"),
    "criteo-x4": ("user", "time"),
    "avazu": ("user",),
    "avazu-x4": ("user", "time"),
    "tenrec": ("time",),
    "open-bandit": ("user",),
}


def lacking(reader: str, options: Collection[str]) -> tuple[str, ...]:
    """Return which of user and time a reader's log has not; an option of that name says what to take for it."""
    return tuple(one for one in LACKING.get(reader, ()) if one not in options)

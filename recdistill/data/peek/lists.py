"""Lists that are more than features: sequences of items with their times, and vectors of the rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import polars as pl

from recdistill.config.base import NAME, shortened, slug
from recdistill.data.peek.draft import Guess
from recdistill.data.peek.profile import Profile, share
from recdistill.data.peek.words import SEQUENCE, has_word
from recdistill.data.readers.times import UNITS, plausible_share

__all__ = ["listed_columns", "sequences_guess", "vectors_guess"]

KNOWN = 0.5  # share of a list's different entries that are items of the rows, from which on it holds items
ENOUGH = 0.2  # different entries of a list that is not called so, as a share of the items
SURE = 0.9  # share of entries that have to be times of our days
SHORTEST = 2  # entries of a vector


def sequences_guess(columns: Mapping[str, Profile], item: Profile | None) -> Guess | None:
    """Return the value of `data.columns.sequences`: lists of the item's ids, and of as many times; None without."""
    lists = {name: one for name, one in columns.items() if isinstance(one.kind.stored, pl.List) and _entries(one)}
    held = [name for name, one in lists.items() if item is not None and _of_items(one, item)]
    times = [name for name, one in lists.items() if name not in held and _of_times(one)]
    if not held:
        return None
    found = {key: {"items": name} | _with_times(name, times, columns) for key, name in _named(held).items()}
    untimed = [name for name, one in found.items() if "times" not in one]
    doubt = "were all entries known before the row?" + (
        f" {', '.join(untimed)}: without times nobody can check; is the newest entry the last?" if untimed else ""
    )
    return Guess(found, f"lists whose entries are items: {', '.join(held)}", doubt)


def vectors_guess(columns: Mapping[str, Profile]) -> Guess | None:
    """Return the value of `data.vectors`: lists of fractions that are equally long in every row; None without."""
    held = [name for name, one in columns.items() if _vector(one)]
    found = {key: {"column": name} for key, name in _named(held).items()}
    doubt = "of the row's item, or of its user (then of: user)? Were they made without what came later?"
    return Guess(found, f"lists of as many fractions in every row: {', '.join(held)}", doubt) if found else None


def listed_columns(settings: Mapping[str, Guess]) -> set[str]:
    """Return the columns that a draft's sequences and vectors use."""
    guesses = [settings[key].value for key in ("data.columns.sequences", "data.vectors") if key in settings]
    return {column for guess in guesses for one in guess.values() for column in one.values()}


def _named(columns: Sequence[str]) -> dict[str, str]:
    """Return columns by names that an experiment file may have, each its own."""
    found: dict[str, str] = {}
    for column in columns:
        plain = slug(column).strip("_.-")
        name = shortened(plain if NAME.fullmatch(plain) and plain != "history" else f"of-{plain}".rstrip("-"))
        while name in found:
            name = shortened(f"{name}-{len(found)}")
        found[name] = column
    return found


def _entries(column: Profile) -> bool:
    inner = column.kind.stored.inner  # type: ignore[attr-defined]
    return bool(inner.is_integer() or inner == pl.String)


def _different(column: Profile) -> pl.Series:
    return column.values.explode().drop_nulls().cast(pl.String).unique()


def _of_items(column: Profile, item: Profile) -> bool:
    """Return whether most of a list's entries are items of the rows, and many of those, or it is called so."""
    entries, items = _different(column), item.text.drop_nulls().unique()
    known = share(entries.is_in(items.implode()))
    return known >= KNOWN and (has_word(column.name, SEQUENCE) is not None or len(entries) >= ENOUGH * len(items))


def _of_times(column: Profile) -> bool:
    entries = column.values.explode().drop_nulls().cast(pl.String)
    return len(entries) > 0 and max(plausible_share(entries, unit) for unit in UNITS) >= SURE


def _with_times(name: str, times: Sequence[str], columns: Mapping[str, Profile]) -> dict[str, str]:
    """Return {times: column} of the list of times that is as long as `name` in every row, the likest by name first."""
    length = columns[name].values.list.len().fill_null(0)
    fitting = [one for one in times if (columns[one].values.list.len().fill_null(0) == length).all()]
    likest = sorted(fitting, key=lambda one: -sum(a == b for a, b in zip(one, name, strict=False)))
    return {"times": likest[0]} if likest else {}


def _vector(column: Profile) -> bool:
    stored = column.kind.stored
    if not isinstance(stored, pl.List | pl.Array) or not stored.inner.is_float():
        return False
    lengths = column.values.cast(pl.List(pl.Float64)).list.len().drop_nulls().unique().to_list()
    return len(lengths) == 1 and lengths[0] >= SHORTEST

"""Which columns are the user, the item, the request and the sample's id."""

from __future__ import annotations

from collections.abc import Collection

import polars as pl

from recdistill.data.peek.draft import Guess
from recdistill.data.peek.layout import nameless
from recdistill.data.peek.profile import Profile, share
from recdistill.data.peek.words import ITEM, REQUEST, SAMPLE, USER, rank, words_of

__all__ = ["lists_share", "request_of", "sample_of", "user_and_item"]

ENOUGH = 20  # rows that show whether a value comes back
MEAN_LIST = 1.5  # rows to a request
ID_WORDS = ("id", "key", "hash", "no", "code", "idx")


def _can_be_id(column: Profile) -> bool:
    """Return whether it has ids: text or whole numbers, hardly ever missing, more than two."""
    kind = column.single and not column.boolean and not column.dated and (column.number is None or column.whole)
    return kind and column.missing < 0.5 and column.distinct > 2


def _comes_back(column: Profile) -> bool:
    """Return whether its ids are no ids of rows."""
    return len(column.values) < ENOUGH or column.distinct < len(column.values)


def user_and_item(columns: dict[str, Profile], taken: Collection[str], guess_user: bool) -> dict[str, Guess]:
    """Return the guesses for `user` and `item`: by name, else the column with most ids, which for the user is to be
    asked for. No user: null. No item: none.
    """
    out: dict[str, Guess] = {}
    for key, names in (("user", USER), ("item", ITEM)):
        ranked = {
            name: place
            for name, column in columns.items()
            if (place := rank(name, names)) is not None and column.single and name not in taken
        }
        if ranked:
            best = min(ranked, key=lambda name: ranked[name])
            out[key] = Guess(best, f"called so; {columns[best].distinct:,} different", _doubt(columns[best]))
    for key in ("user", "item"):
        used = {*taken, *(guess.value for guess in out.values())}
        left = [name for name, column in columns.items() if name not in used and _can_be_id(column)]
        if key not in out and left and (guess_user or key == "item"):
            best = max(left, key=lambda name: _likely(columns[name], key))
            doubt = f"is this the {key}? No column is called so"
            out[key] = Guess(best, f"text or whole numbers, {columns[best].distinct:,} different", doubt)
    no_user = Guess(None, "no column looks like a user", "has the log none? Then every row is alone, without histories")
    return {"user": no_user} | out


def _likely(column: Profile, key: str) -> tuple[bool, bool, bool, int]:
    """Return what the likeliest column has most of; of columns without names the first is it."""
    words = words_of(column.name)
    of_id = words[-1:] != [] and words[-1] in ID_WORDS
    return _comes_back(column), key in words, of_id, 0 if nameless(column.name) else column.distinct


def _doubt(column: Profile) -> str:
    if column.distinct < 2:
        return "always the same"
    return f"missing in {column.missing:.1%} of the rows" if column.missing else ""


def sample_of(columns: dict[str, Profile], taken: Collection[str], whole: bool) -> Guess | None:
    """Return the sample's id: called so, never missing, never twice."""
    for name in sorted((n for n in columns if rank(n, SAMPLE) is not None), key=lambda n: rank(n, SAMPLE) or 0):
        column = columns[name]
        if name not in taken and _can_be_id(column) and not column.missing and column.distinct == len(column.text):
            doubt = "" if whole else "no value stands twice in the rows looked at; ingest looks at all"
            return Guess(name, "called so, every row has its own", doubt)
    return None


def request_of(columns: dict[str, Profile], taken: Collection[str], user: str, times: pl.Series | None) -> Guess | None:
    """Return the request: called so, of several rows, of one user and, where times are known, of one instant."""
    for name in sorted((n for n in columns if rank(n, REQUEST) is not None), key=lambda n: rank(n, REQUEST) or 0):
        column = columns[name]
        if name in taken or not _can_be_id(column) or column.distinct * MEAN_LIST > len(column.text):
            continue
        if column.number is not None and (column.number.drop_nulls() < 0).any():
            continue
        frame = pl.DataFrame({"request": column.text, "user": columns[user].text, "time": times})
        groups = frame.drop_nulls("request").group_by("request").agg(pl.col("user", "time").n_unique(), pl.len())
        if share(groups["user"] == 1) < 0.95:
            continue
        doubt = "its rows are of several instants: a session? A request is one list, shown at once"
        doubt = "" if times is None or share(groups["time"] == 1) > 0.8 else doubt
        return Guess(name, f"called so; {len(column.text) / column.distinct:.1f} rows each, of one user", doubt)
    return None


def lists_share(user: pl.Series, times: pl.Series) -> float:
    """Return the share of rows that share user and instant with another row."""
    pairs = pl.DataFrame({"user": user, "time": times}).drop_nulls()
    return share(pairs.is_duplicated())

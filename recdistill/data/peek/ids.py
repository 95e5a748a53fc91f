"""Which columns are the user, the item, the request and the sample's id."""

from __future__ import annotations

from collections.abc import Collection

import polars as pl

from recdistill.data.peek.draft import Guess
from recdistill.data.peek.layout import nameless
from recdistill.data.peek.profile import Profile, share
from recdistill.data.peek.words import ITEM, REQUEST, SAMPLE, USER, rank, words_of

__all__ = ["lists_share", "request_of", "sample_of", "run_share", "user_and_item"]

IN_RUNS = 0.1  # share of rows that follow one of the same value, beyond chance, from which on they are a user's
RETURNS = 1.5  # runs of rows to a value
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
    """Return the guesses for `user` and `item`: by name, else by values, which for the user is to be asked for: the
    column whose rows follow one another, or that with most ids. No user: null. No item: none.
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
            others = [columns[name] for name in left if name != best]
            doubt = f"is this the {key}?" + ("" if best == key[0] else " No column is called so")
            out[key] = Guess(best, _reason(columns[best], key, others), doubt)
    no_user = Guess(None, "no column looks like a user", "has the log none? Then every row is alone, without histories")
    return {"user": no_user} | out


def _likely(column: Profile, key: str) -> tuple[bool, bool, bool, float, int]:
    """Return what the likeliest column has most of; of columns without names the first is it."""
    words = words_of(column.name)
    of_id = words[-1:] != [] and words[-1] in ID_WORDS
    in_runs = run_share(column.text) if key == "user" else 0.0
    in_runs = in_runs if in_runs > IN_RUNS else 0.0
    distinct = 0 if nameless(column.name) else column.distinct
    return _comes_back(column), key in words or words == [key[0]], of_id, in_runs, distinct


def _reason(column: Profile, key: str, others: list[Profile]) -> str:
    """Return by what of its values a column was chosen before the others."""
    called = f"called '{column.name}'; " if words_of(column.name) == [key[0]] else ""
    found = f"{called}text or whole numbers, {column.distinct:,} different"
    if key == "user" and (in_runs := run_share(column.text)) > IN_RUNS:
        return f"{found}; {in_runs:.0%} of the rows follow one of the same value, as a user's do, beyond chance"
    next_one = max(others, key=lambda other: other.distinct, default=None)
    if next_one is None or next_one.distinct > column.distinct:
        return found
    return f"{found}, more than '{next_one.name}' has ({next_one.distinct:,})"


def run_share(text: pl.Series) -> float:
    """Return the share of rows with the value of the row before, less what chance gives: the sum of squared shares.

    0 where values hardly return once others came, as those of a day's number do not.
    """
    filled = text.drop_nulls()
    if len(filled) < 2 or len(filled.rle()) < RETURNS * filled.n_unique():
        return 0.0
    chance = float(((filled.value_counts()["count"] / len(filled)) ** 2).sum())
    return share((filled == filled.shift(1))[1:]) - chance


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

"""Which column is the time, in which unit, and which others are times."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from recdistill.data.peek.draft import Guess
from recdistill.data.peek.layout import nameless
from recdistill.data.peek.profile import Profile, problem_of, share
from recdistill.data.peek.words import MEASURED, TIME, has_word, rank, words_of
from recdistill.data.readers.times import DIGITS, UNITS, plausible, plausible_share, time_column

__all__ = ["Moment", "moments_of", "time_guess", "times_by"]

SURE = 0.9  # share of values that have to be times of our days
WORDS = {
    "time", "timestamp", "ts", "datetime", "date", "dt", "day", "at", "when", "utc", "epoch", "start", "known", "shown",
    "created", "occurred", "hour",
}  # fmt: skip
LETTER = "t"  # what a time is called where names are one letter long
ENDS = ("time", "timestamp", "date", "datetime")
LATER = {  # of a name: a time of something else than the row
    "click", "clicked", "conversion", "converted", "purchase", "purchased", "buy", "known", "label", "end", "update",
    "updated", "birth", "upload", "uploaded", "publish", "published", "release", "released", "register", "registered",
    "expire", "expires", "finish", "finished", "order", "ordered", "install", "installed", "modified", "join", "last",
}  # fmt: skip
PATTERNS = (
    "iso", "%Y/%m/%d %H:%M:%S", "%Y/%m/%d", "%m/%d/%Y %I:%M:%S %p", "%m/%d/%Y %H:%M:%S", "%m/%d/%Y",
    "%d/%m/%Y %H:%M:%S", "%d/%m/%Y", "%d.%m.%Y %H:%M:%S", "%d.%m.%Y", "%Y%m%dT%H%M%S",
)  # fmt: skip


@dataclass(frozen=True)
class Moment:
    """A column of times. unit: by which it is read; '' of a column whose type says it; sure: the share of plausible
    ones.
    """

    name: str
    unit: str
    sure: float
    daily: bool


def _called(name: str) -> bool:
    plain = "".join(words_of(name))
    return bool(has_word(name, WORDS)) or plain.endswith(ENDS) or plain.startswith(ENDS) or plain == LETTER


def _unit(column: Profile) -> tuple[str, float]:
    """Return (unit, share of values that it makes plausible) of the best unit of numbers or texts."""
    if column.number is not None:  # 0 and -1 stand for none
        raw = column.text.filter((column.number > 0).fill_null(False)).str.replace(r"\.0+$", "")
        known = (*UNITS, *DIGITS) if column.whole and not nameless(column.name) else tuple(UNITS)
        shares = {unit: plausible_share(raw, unit) for unit in known}
    elif column.kind.text:
        shares = {unit: _share_of_text(column, unit) for unit in PATTERNS}
    else:
        return "", 0.0
    best = max(shares, key=lambda unit: shares[unit])
    return best, shares[best]


def times_by(column: Profile, unit: str) -> pl.Series:
    """Return the column's times."""
    return column.values.to_frame().select(time_column(column.name, unit or "s", column.kind).value).to_series()


def _share_of_text(column: Profile, unit: str) -> float:
    return share(plausible(times_by(column, unit)).filter(column.text.is_not_null()))


def moments_of(columns: dict[str, Profile]) -> list[Moment]:
    """Return the columns that hold times of our days: by their type, or called so and plausible by a unit."""
    found = []
    for name, column in columns.items():
        if column.dated:
            unit, sure = "", float(plausible(times_by(column, "")).any())
        elif not column.single or column.boolean or has_word(name, MEASURED) or not (_called(name) or nameless(name)):
            continue
        else:
            unit, sure = _unit(column)
        if sure >= SURE:
            found.append(Moment(name, unit, sure, _daily(column, unit)))
    return found


def _daily(column: Profile, unit: str) -> bool:
    times = times_by(column, unit).drop_nulls()
    return bool((times.dt.truncate("1d") == times).all())


def time_guess(columns: dict[str, Profile], moments: list[Moment], rows: pl.DataFrame) -> tuple[Guess, str] | None:
    """Return (the column of the row's time, its unit or '' where none is needed), None where nothing looks like it."""
    if moments:
        best = min(moments, key=lambda one: _order(one, columns))
        return _of_moment(best, columns[best.name], moments), best.unit
    relative = [name for name, one in columns.items() if rank(name, TIME) is not None and one.number is not None]
    for name in relative:
        number = columns[name].number
        if number is not None and problem_of(rows, time_column(name, "s", columns[name].kind)) is None:
            if (number.drop_nulls() >= 0).all():
                doubt = "no unit makes these times of our days; taken as seconds from the log's own start"
                return Guess(name, "called like a time", doubt), "s"
    return None


def _order(one: Moment, columns: dict[str, Profile]) -> tuple[bool, bool, bool, int, int]:
    place = rank(one.name, TIME)
    missing = 1 - share(plausible(times_by(columns[one.name], one.unit)))
    return (
        missing > 0.5, has_word(one.name, LATER) is not None, one.daily,
        len(TIME) if place is None else place, list(columns).index(one.name),
    )  # fmt: skip


def _of_moment(one: Moment, column: Profile, moments: list[Moment]) -> Guess:
    times = times_by(column, one.unit)
    times = times.filter(plausible(times).fill_null(False))
    span = f"between {min(times):%Y-%m-%d} and {max(times):%Y-%m-%d}"
    how = f"by {one.unit} its values lie" if one.unit else f"its type is {column.kind.stored}, values lie"
    odd = 1 - len(times) / len(column.values)
    doubts = [f"{odd:.1%} of the rows have no time of our days"] if odd else []
    others = [other.name for other in moments if other.name != one.name]
    doubts += [f"other times: {', '.join(others[:5])}"] if others else []
    doubts += (
        ["days alone: what happened first within a day is not known, so histories are a day late"] if one.daily else []
    )
    return Guess(one.name, f"{how} {span}", "; ".join(doubts))

"""Values of a request: what a caller may give where an id, a moment or a number is expected.

Each is read all at once where its values are of the types that most requests hold; else one by one, and the first that
is wrong is refused by its field.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import numpy as np

from recdistill.defaults import SECOND
from recdistill.errors import UserError
from recdistill.serve.id_map import IdMap
from recdistill.serve.request import SHOWN, Column
from recdistill.typing import Array

__all__ = ["id_of", "known_ids", "listed", "microseconds", "numbers_of_values", "shown", "times_of"]

INT64 = 1 << 63
WHOLE_TYPE, TIME_TYPES, NUMBER_TYPES = {int}, {int, float}, {int, float, type(None)}
WHOLE = re.compile(r"(0|-?[1-9][0-9]*)(\.0+)?")  # the only ways to write one, as in a log: 007 is text
LAST = 253_402_300_800  # the year 10000, in seconds


def known_ids(fields: Sequence[tuple[str, Column]], kind: str, known: IdMap) -> Array:
    """Return int64 [n], the index of each id of all the fields, 0 for one that was never seen."""
    if kind == "int64":
        whole = [_whole(of_field) for _, of_field in fields]
        if not any(one is None for one in whole):
            return known.places(np.concatenate(whole))  # type: ignore[arg-type]
    values = [value for _, of_field in fields for value in listed(of_field)]
    if kind == "string" and set(map(type, values)) == {str}:
        return known.places(values)
    names = [name for name, of_field in fields for _ in range(len(of_field))]
    return known.places([id_of(value, kind, name) for name, value in zip(names, values, strict=True)])


def _whole(values: Column) -> Array | None:
    """Return int64 [n] of values that are whole numbers of 64 bits as such, else None."""
    if isinstance(values, np.ndarray):
        return values if values.dtype == np.int64 else None
    if WHOLE_TYPE.issuperset(map(type, values)):
        with suppress(OverflowError):
            return np.array(values, np.int64)
    return None


def listed(values: Column) -> Sequence[Any]:
    """Return values as Python has them."""
    return values.tolist() if isinstance(values, np.ndarray) else values


def id_of(value: Any, kind: str, what: str) -> int | str:
    """Return an id as the tables have it: a whole number may be 12, 12.0 or such text; text as it is written."""
    if kind == "string":
        if isinstance(value, str) or (isinstance(value, int) and not isinstance(value, bool)):
            return str(value)
        raise UserError(f"{what}: an id of text was expected; got {shown(value)}")
    try:
        if isinstance(value, bool) or (isinstance(value, float) and not value.is_integer()):
            raise ValueError
        if isinstance(value, str) and not WHOLE.fullmatch(value):
            raise ValueError
        number = int(value.partition(".")[0] if isinstance(value, str) else value)
    except (ValueError, TypeError, OverflowError):
        raise UserError(f"{what}: a whole number was expected; got {shown(value)}") from None
    if not -INT64 <= number < INT64:
        raise UserError(f"{what}: a whole number of 64 bits was expected; got {shown(value)}")
    return number


def shown(value: Any) -> str:
    """Return what was given, not too long."""
    text = repr(value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."


def times_of(seconds: Column, what: str) -> Array:
    """Return int64 us of times in seconds."""
    if _numeric(seconds, TIME_TYPES):
        with suppress(OverflowError):  # a whole number that no float holds is refused below, by its value
            found = np.array(seconds, np.float64)
            if not len(found) or (found.min() >= 0 and found.max() < LAST):
                return np.rint(found * SECOND).astype(np.int64)
    return np.array([microseconds(one, what) for one in listed(seconds)], np.int64)


def _numeric(values: Column, types: set[type]) -> bool:
    """Return whether all values are of these types, or numbers of an array."""
    return values.dtype.kind in "iuf" if isinstance(values, np.ndarray) else types.issuperset(map(type, values))


def microseconds(seconds: Any, what: str) -> int:
    """Return us of a time in seconds."""
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or seconds != seconds:
        raise UserError(f"{what}: seconds since 1970 were expected; got {shown(seconds)}")
    if not 0 <= seconds < LAST:
        raise UserError(f"{what}: seconds since 1970 were expected, before the year 10000; got {shown(seconds)}")
    return round(seconds * SECOND)


def numbers_of_values(values: Column, what: str) -> Array:
    """Return float64 [n] as the tables hold numbers: of seven digits, NaN where missing."""
    if _numeric(values, NUMBER_TYPES):
        with suppress(OverflowError), np.errstate(over="ignore"):
            found = np.array(values, np.float64)
            if not np.isinf(found).any():
                return found.astype(np.float32).astype(np.float64)
    with np.errstate(over="ignore"):
        return np.array([_number(one, what) for one in listed(values)], np.float32).astype(np.float64)


def _number(value: Any, what: str) -> float:
    if value is None:
        return math.nan
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise UserError(f"{what}: a number was expected; got {shown(value)}")
    try:
        number = float(value)
    except OverflowError:
        raise UserError(f"{what}: a number of 64 bits was expected; got {shown(value)}") from None
    if math.isinf(number):
        raise UserError(f"{what}: a finite number was expected, or null; got {shown(value)}")
    return number

"""Times: counts since 1970, dates, texts; in UTC where they name no zone.

    time        missing: null, NaN, empty; refused, as are those in the future; by drop_missing left out, as
                are those before 1970
    label time  never known: null, NaN, empty, before 1970 (-1), in the future (9999-12-31); counted
                a date without a time of day: known when the day is over
    past time   of a behavior or an entry of a sequence: a time; a date without a time of day is its last microsecond

A unit is held against what it makes: where no time of a chunk lies between 1990 and now, and all would by another unit
or pattern, the log is refused by that unit's name. Times counted from the start of a log, as some publish them, pass.
"""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
from polars.exceptions import PolarsError

from recdistill.data.readers.columns import Column, Kind
from recdistill.errors import UserError, did_you_mean
from recdistill.tables.delta.types import TIME
from recdistill.tables.validation import SKEW

__all__ = [
    "DIGITS",
    "UNITS",
    "check_unit",
    "known_time_column",
    "label_time_column",
    "past_time_column",
    "plausible",
    "plausible_share",
    "time_column",
]

UNITS = {"s": 1_000_000, "ms": 1_000, "us": 1, "ns": 0.001}  # microseconds
ISO = ("%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%dT%H:%M", "%Y-%m-%d")
DIGITS = ("%Y%m%d%H%M%S", "%Y%m%d%H%M", "%Y%m%d%H", "%Y%m%d", "%y%m%d%H", "%y%m%d")  # patterns of whole numbers
WIDTHS = {"Y": 4, "y": 2, "m": 2, "d": 2, "H": 2, "M": 2, "S": 2, "j": 3}
OF_DAY = ("%H", "%I", "%k", "%l", "%T", "%R", "%r", "%X", "%c", "%s", "%+")  # parts of a pattern that give an hour
FEW = 1_000  # rows of a chunk in which a plausible time is looked for first
ERA = datetime(1990, 1, 1, tzinfo=UTC)  # logs of before are taken as counted from their own start
EPOCH = pl.lit(0).cast(TIME)
WHOLE_DAY, LAST_OF_DAY = "1d", "86399999999us"  # from its first moment
ZERO_DATE = "0000-00-00"  # what MySQL has for none


def time_column(column: str, unit: str, kind: Kind) -> Column:
    """Return the column that makes `column` a UTC time in microseconds; `unit` counts where `kind` is no time itself.

    UserError for a unit that is none.
    """
    made = _time(column, unit, kind)
    return replace(made, value=pl.when(made.value.dt.year().is_between(1, 9998)).then(made.value))  # as Python can show


def _time(column: str, unit: str, kind: Kind) -> Column:
    value = pl.col(column)
    if isinstance(kind.stored, pl.Datetime):
        aware = value.dt.convert_time_zone("UTC") if kind.stored.time_zone else value.dt.replace_time_zone("UTC")
        return Column(column, aware.cast(TIME), "not a time")
    if isinstance(kind.stored, pl.Date):
        return Column(column, value.cast(pl.Datetime("us")).dt.replace_time_zone("UTC"), "not a date")
    if not (kind.text or kind.stored.is_numeric() or isinstance(kind.stored, pl.Null)):
        return Column(column, pl.lit(None, TIME), f"not a number or text, but {kind.stored}, which is no time")
    missing = value.is_nan() if kind.stored.is_float() else None
    if kind.text:
        missing = value.cast(pl.String).str.starts_with(ZERO_DATE)
    if unit in UNITS:
        problem = f"not a time in {unit} since 1970; set columns.time_unit to s, ms, us, ns, iso or a pattern"
        return Column(column, _counted(value, unit, kind), problem, missing)
    return Column(column, _written(value, unit, kind), f"not a time as time_unit says ({unit})", missing)


def label_time_column(column: str, unit: str, kind: Kind) -> Column:
    """Return the column that makes the time when a label was known, null where it never was; UserError as above."""
    made = _time(column, unit, kind)
    value, now = _day_over(made.value, column, unit, kind), pl.lit(datetime.now(UTC) + SKEW)
    never = ~made.value.is_between(EPOCH, now)
    missing = never if made.missing is None else never | made.missing
    if unit in UNITS and (kind.text or kind.stored.is_numeric()):  # a count may be too large for a time
        count = pl.col(column).cast(pl.Float64, strict=False)
        missing = missing | (count < 0) | (count * UNITS[unit] > 9e18)
    counted = {f"'{column}': times before 1970 or in the future, taken as never": missing}
    return replace(made, value=pl.when(~never).then(value), missing=missing, counted=counted)


def known_time_column(column: str, unit: str, kind: Kind) -> Column:
    """Return the column that makes the time from which a row of a side table is known: a date without a time of day
    when the day is over; UserError as above.
    """
    made = time_column(column, unit, kind)
    return replace(made, value=_day_over(made.value, column, unit, kind))


def past_time_column(column: str, unit: str, kind: Kind) -> Column:
    """Return the column that makes the time of what samples after it have: a date without a time of day is its last
    microsecond, so that none of that day has it, and the next day's first does; UserError as above.
    """
    made = time_column(column, unit, kind)
    return replace(made, value=_day_over(made.value, column, unit, kind, LAST_OF_DAY))


def _day_over(time: pl.Expr, column: str, unit: str, kind: Kind, later: str = WHOLE_DAY) -> pl.Expr:
    """Return the times, those of a date alone so much later."""
    if isinstance(kind.stored, pl.Date) or not (unit in UNITS or _has_hour(unit)):
        return time.dt.offset_by(later)
    if unit == "iso" and kind.text:
        date_only = pl.col(column).cast(pl.String).str.len_chars() <= len("2024-01-31")
        return pl.when(date_only).then(time.dt.offset_by(later)).otherwise(time)
    return time


def _counted(value: pl.Expr, unit: str, kind: Kind) -> pl.Expr:
    """Return times of counts; whole ones exactly."""
    number = value.cast(pl.String) if kind.text else value
    scaled = (number.cast(pl.Float64, strict=False) * UNITS[unit]).round().cast(pl.Int64, strict=False)
    fractions = isinstance(kind.stored, pl.Decimal) and kind.stored.scale > 0 and unit != "ns"
    if kind.stored.is_float() or fractions:
        return scaled.cast(TIME)
    whole = number.cast(pl.Int64, strict=False)
    whole = (
        whole // 1000 if unit == "ns" else pl.when(whole.abs() <= 2**63 // UNITS[unit] - 1).then(whole * UNITS[unit])
    )
    return pl.coalesce(whole, scaled).cast(TIME)


def _written(value: pl.Expr, unit: str, kind: Kind) -> pl.Expr:
    """Return times of texts, and of whole numbers that are written like one."""
    if kind.stored.is_float():
        value = value.cast(pl.Int64, strict=False)
    text = value.cast(pl.String)
    if unit != "iso":
        return _by_pattern(text.str.zfill(_width(unit)) if kind.meant.is_numeric() else text, unit)
    plain = text.str.strip_suffix(" UTC").str.replace(" ", "T", literal=True).str.strip_suffix("Z")
    naive = [plain.str.to_datetime(form, time_unit="us", strict=False).dt.replace_time_zone("UTC") for form in ISO]
    aware = plain.str.to_datetime("%Y-%m-%dT%H:%M:%S%.f%#z", time_unit="us", strict=False)
    return pl.coalesce(*naive, aware.dt.convert_time_zone("UTC"))


def _has_hour(unit: str) -> bool:
    return unit == "iso" or any(part in unit for part in OF_DAY)


def _width(pattern: str) -> int:
    """Return how many digits a pattern of digits alone has, 0 for others."""
    parts = re.findall("%(.)", pattern)
    return sum(WIDTHS[part] for part in parts) if pattern == "".join(f"%{p}" for p in parts if p in WIDTHS) else 0


def _by_pattern(text: pl.Expr, pattern: str) -> pl.Expr:
    """Return times of texts by a pattern; UserError for one that gives no date."""
    if _has_hour(pattern) and re.search("%[HIkl]", pattern) and not re.search("%[MTRrXcs+]", pattern):
        pattern, text = f"{pattern} %M", text + " 00"  # the library takes no hour without a minute
    made = text.str.to_datetime(pattern, time_unit="us", strict=False)
    _check_pattern(made, pattern)
    return made.dt.convert_time_zone("UTC") if re.search("%[:#]*z|%[+]", pattern) else made.dt.replace_time_zone("UTC")


def _check_pattern(made: pl.Expr, pattern: str) -> None:
    if "%Z" in pattern:
        raise UserError(
            f"time_unit {pattern!r}: names of zones (%Z) cannot be read; write offsets (%z), or UTC without"
        )
    if "%" not in pattern:
        known = [*UNITS, "iso"]
        raise UserError(
            f"time_unit {pattern!r}: is no unit{did_you_mean(pattern, known)}, and no pattern like '%Y-%m-%d'"
        )
    column = made.meta.root_names()[0]
    try:
        pl.DataFrame({column: ["1"]}, schema={column: pl.String}).select(made)
    except PolarsError as error:
        reason = str(error).splitlines()[0].removeprefix("Invalid format string: ")
        raise UserError(f"time_unit {pattern!r}: is no pattern of a time: {reason}") from None


def check_unit(chunk: pl.DataFrame, column: Column, unit: str, kind: Kind, path: Path) -> None:
    """Raise UserError where no time of a chunk is plausible by `unit`, and all would be by another, which it names."""
    if not (kind.meant.is_numeric() or (kind.text and unit in UNITS)):
        return
    if plausible(chunk.head(FEW).select(column.value).to_series()).any():  # one is enough
        return
    times = chunk.select(column.value).to_series().drop_nulls()
    if plausible(times).any():
        return
    raw = chunk[column.source].cast(pl.String).drop_nulls().str.replace(r"\.0+$", "")
    units = [other for other in (*UNITS, *DIGITS) if len(raw) and other != unit]
    fits = next((other for other in units if plausible_share(raw, other) == 1), None)
    if fits:
        found = f"these times lie around {times[0]:%Y-%m-%d}" if len(times) else "these are no times"
        raise UserError(
            f"{path}: column '{column.source}': by time_unit {unit!r} {found}; set time_unit: '{fits}', by which "
            f"they lie around {_made(raw, fits)[0]:%Y-%m-%d}"
        )


def _made(raw: pl.Series, unit: str) -> pl.Series:
    kind = Kind(pl.String(), pl.Int64())
    return raw.to_frame("x").select(time_column("x", unit, kind).value).to_series()


def plausible_share(raw: pl.Series, unit: str) -> float:
    """Return which share of numbers, written as text, lies between 1990 and now by `unit`; 0 of none."""
    if not len(raw) or (unit in DIGITS and (raw.str.len_chars() != _width(unit)).any()):
        return 0.0
    return float(plausible(_made(raw, unit)).fill_null(False).mean() or 0.0)  # type: ignore[arg-type]


def plausible(times: pl.Series) -> pl.Series:
    """Return bool [n]: which times lie between 1990 and now, null for none."""
    return times.is_between(ERA, datetime.now(UTC) + SKEW)

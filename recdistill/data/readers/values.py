"""What numbers, labels and lists are made of, and which values are missing (docs: bring your log).

    kind      missing                       refused
    label     null, NaN, empty text         all but 0 and 1; at_least and equals: infinity; soft: all but [0, 1];
                                            regression: infinity, with log below 0
    weight    -                             null, NaN, infinity, below 0
    numeric   null, NaN, empty, infinity    text that is no number, what float32 cannot hold
    category  null, NaN, empty text         -
    list      null and empty text; entries  lists of lists, structs, a list written as text in brackets
              that are null, NaN or empty

A label is never made of a missing value. What is infinite, and entries left out of lists, are counted.
"""

from __future__ import annotations

import polars as pl

from recdistill.config.data import TaskColumn
from recdistill.data.readers.columns import Column, Kind, Kinds, missing_of, text_of
from recdistill.tables.validation import VALUE, WEIGHT

__all__ = ["BRACKETS", "label_column", "list_column", "number_of", "numeric_column", "weight_column"]

LARGEST = 3.4028234663852886e38  # that float32 holds
BRACKETS = r"^\s*\[.*\]\s*$"


def number_of(column: str, kind: Kind) -> pl.Expr:
    """Return the expression that makes float64 of a column, null for what is no number; booleans are 0 and 1."""
    value = pl.col(column)
    if kind.text and isinstance(kind.meant, pl.Boolean):
        lower = value.cast(pl.String).str.to_lowercase()
        return lower.replace_strict({"true": 1.0, "false": 0.0}, default=None, return_dtype=pl.Float64)
    if kind.text:
        return value.cast(pl.String).cast(pl.Float64, strict=False)
    fits = kind.stored.is_numeric() or isinstance(kind.stored, pl.Boolean | pl.Null)
    return value.cast(pl.Float64, strict=False) if fits else pl.lit(None, pl.Float64)


def numeric_column(column: str, kind: Kind) -> Column:
    """Return the column that makes float32, rounded to what it holds."""
    number = number_of(column, kind)
    fits = pl.when(number.abs() <= LARGEST).then(number.cast(pl.Float32, strict=False))
    counted = {f"'{column}': infinite values taken as missing": number.is_infinite()}
    return Column(column, fits, "not a number of at most 3.4e38", number.is_nan() | number.is_infinite(), counted)


def weight_column(column: str, kind: Kind) -> Column:
    """Return the column that makes float32 of a row's weight."""
    number = number_of(column, kind)
    return Column(column, pl.when(number.is_between(0, LARGEST)).then(number.cast(pl.Float32)), WEIGHT)


def label_column(task: str, spec: str | TaskColumn | int, kinds: Kinds, any_column: str) -> Column:
    """Return the column that makes a task's label: 0, 1, of a soft one any number between, null where not known."""
    if isinstance(spec, int):
        return Column(any_column, pl.lit(1.0, pl.Float32), "not a row")
    if isinstance(spec, str):
        number = number_of(spec, kinds[spec])
        known = pl.when(number.is_in([0.0, 1.0])).then(number.cast(pl.Float32))
        return Column(spec, known, _no_label(task, spec, kinds[spec]), number.is_nan())
    kind, number = kinds[spec.column], number_of(spec.column, kinds[spec.column])
    if spec.regression is not None:
        low = 0.0 if spec.regression == "log" else -LARGEST
        inside = pl.when(number.is_between(low, LARGEST)).then(number.cast(pl.Float32))
        return Column(spec.column, inside, f"must be {VALUE[spec.regression]}, or empty", number.is_nan())
    if spec.soft:
        inside = pl.when(number.is_between(0.0, 1.0)).then(number.cast(pl.Float32))
        return Column(spec.column, inside, "must be a number from 0 to 1, or empty", number.is_nan())
    if isinstance(spec.equals, str):
        text, missing = text_of(pl.col(spec.column), kind), missing_of(pl.col(spec.column), kind)
        return Column(spec.column, (text == spec.equals).cast(pl.Float32), "not a text or number", missing)
    finite = pl.when(number.is_finite()).then(number)
    made = finite == spec.equals if spec.equals is not None else finite >= spec.at_least
    return Column(spec.column, made.cast(pl.Float32), "not a finite number", number.is_nan())


def _no_label(task: str, column: str, kind: Kind) -> str:
    """Return what is wrong with a value that is no label, and how to make one of such values."""
    if kind.meant.is_numeric():
        positive, more = "equals: 1", "; or at_least: a number; or regression: log, for values"
    else:
        positive, more = "equals: TEXT", ""
    return (
        f"must be 0, 1 or empty; say what a positive is, as tasks: {{{task}: {{column: {column}, {positive}}}}}{more}"
    )


def list_column(column: str, separator: str, kind: Kind) -> Column:
    """Return the column that makes a list of texts, entries that stand for nothing left out."""
    value, missing = pl.col(column), None
    if isinstance(kind.stored, pl.Array):
        value = value.arr.to_list()
    if isinstance(kind.stored, pl.List | pl.Array):
        inner = Kind(kind.stored.inner, kind.stored.inner)  # type: ignore[arg-type]
        entries = value.list.eval(text_of(pl.element(), inner)) if inner.stored != pl.String else value
    else:
        text = text_of(value, kind)
        entries = pl.when(~text.str.contains(BRACKETS)).then(text.str.split(separator))
        missing = missing_of(value, kind)
    kept = entries.list.eval(pl.element().filter(pl.element().is_not_null() & (pl.element() != "")))
    counted = {f"'{column}': empty entries of lists left out": entries.list.len() - kept.list.len()}
    return Column(
        column, kept, "a list written as text; store it as one, or join its entries by the separator", missing, counted
    )

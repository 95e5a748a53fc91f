"""What the remaining columns can be: categories, numbers, lists, or nothing that a model should read."""

from __future__ import annotations

import polars as pl

from recdistill.data.peek.draft import Feature
from recdistill.data.peek.profile import Profile, problem_of, share
from recdistill.data.peek.words import CODE, COUNT, MEASURED, has_word, words_of
from recdistill.data.readers.columns import Kind
from recdistill.data.readers.ids import category_type, id_column
from recdistill.data.readers.values import BRACKETS, list_column, numeric_column
from recdistill.defaults import LIST_LENGTH

__all__ = ["can_be_named", "feature_of", "useless"]

EMPTY = 0.97  # share of rows without a value from which on a column is left out
OWN = 0.9  # share of rows with a value of their own from which on a text says nothing
ENOUGH = 20  # rows that say anything about a share
FEW_CODES = 100  # different whole numbers that may be codes
LONG = 60  # characters of a text that is no category
MAX_NAME = 200  # characters
LONGEST_ENTRY = 30  # characters of a list's entry
SEPARATORS = ("|", ";", ",", " ")


def can_be_named(name: str) -> bool:
    """Return whether an experiment file can name such a column."""
    return 0 < len(name) <= MAX_NAME and "\0" not in name


def useless(column: Profile) -> str | None:
    """Return why a column can be no feature, None where it can."""
    if not (column.single or isinstance(column.kind.stored, pl.List | pl.Array)):
        return f"holds {column.kind.stored}, not one value a row"
    if column.missing >= EMPTY:
        return f"empty in {column.missing:.0%} of the rows"
    if column.single and column.distinct < 2 and not 0 < column.missing:
        return "constant"
    if column.single and _counts_rows(column):
        return "counts the rows"
    if word := has_word(column.name, MEASURED):
        return f"'{word}' in its name: looks like measured after the row, which a model may not know"
    return None


def _counts_rows(column: Profile) -> bool:
    if not column.whole or column.number is None or len(column.values) < ENOUGH or column.missing:
        return False
    steps = column.number.head(ENOUGH).diff().drop_nulls()
    return bool((steps == 1).all()) and column.distinct == len(column.values)


def feature_of(column: Profile, rows: pl.DataFrame) -> Feature | str:
    """Return the column as a feature, or why it is none."""
    found = _list(column) if not column.single or column.kind.text else None
    found = found or _scalar(column)
    return found if isinstance(found, str) else _readable(found, column, rows)


def _readable(found: Feature, column: Profile, rows: pl.DataFrame) -> Feature | str:
    """Return the feature where the reader takes every value of the sample, else what it would refuse."""
    kind = column.kind
    made = {
        "numeric": lambda: numeric_column(found.name, kind),
        "lists": lambda: list_column(found.name, found.separator, kind),
        "categorical": lambda: id_column(found.name, kind, category_type(kind), found.name),
    }[found.kind]()
    problem = problem_of(rows, made)
    return found if problem is None else f"as {found.kind}: {problem}"


def _list(column: Profile) -> Feature | str | None:
    """Return a list, what is wrong with it, or None for a column of single values."""
    stored = column.kind.stored
    if isinstance(stored, pl.List | pl.Array):
        inner: pl.DataType = stored.inner  # type: ignore[assignment]
        if not Kind(inner, inner).single:
            return f"holds {stored}, not lists of one value each"
        if inner.is_float():
            return f"lists of {inner}: a vector? A list feature is one of ids or tags"
        longest = max(column.values.list.len().drop_nulls(), default=0) if isinstance(stored, pl.List) else stored.size
        doubt = f"the last {LIST_LENGTH} entries are read; data.list_length for more" if longest > LIST_LENGTH else ""
        return Feature(column.name, "lists", f"lists of {inner}, up to {longest} entries", doubt)
    text = column.text.drop_nulls()
    if not len(text) or column.kind.meant.is_numeric():
        return None
    if share(text.str.contains(BRACKETS)) > 0.5:
        return "a list written as text; store it as one, or join its entries by a separator"
    for separator in SEPARATORS:
        if _separates(text, separator):
            doubt = f"is {separator!r} what separates them?"
            return Feature(column.name, "lists", "several values in a text", doubt, separator)
    return None


def _separates(text: pl.Series, separator: str) -> bool:
    """Return whether texts are lists: often of several entries, short ones, that come back in other texts."""
    split = text.str.split(separator)
    entries = split.explode()
    often = share(split.list.len() > 1)
    short = not (entries.str.len_chars() > LONGEST_ENTRY).any()
    clean = separator == " " or bool((entries == entries.str.strip_chars()).all())
    of_words = separator in ", " and entries.n_unique() * 2 > text.n_unique()  # a title, or a city and its country
    return often > 0.3 and short and clean and not of_words and entries.n_unique() * 3 <= len(entries)


def _scalar(column: Profile) -> Feature | str:
    name, different = column.name, f"{column.distinct:,} values"
    if column.boolean:
        return Feature(name, "categorical", "true or false")
    if column.dated:  # none of our days: times of our days are known by now
        return "a time that is none of our days"
    if column.number is None or not column.kind.meant.is_numeric():
        return _text(column, different)
    if not column.whole:
        return Feature(name, "numeric", "numbers with fractions")
    last = words_of(name)[-1:]
    if set(last) & CODE or has_word(name, ("is", "has")) or "feat" in name:
        return Feature(name, "categorical", f"whole numbers, called like codes, {different}")
    if has_word(name, COUNT):
        return Feature(name, "numeric", f"whole numbers, called like an amount, {different}")
    if column.distinct <= FEW_CODES:
        return Feature(name, "categorical", f"whole numbers, {different}", "codes, or amounts (then numeric)?")
    return Feature(name, "numeric", f"whole numbers, {different}", "amounts, or codes (then categorical)?")


def _text(column: Profile, different: str) -> Feature | str:
    given = column.text.drop_nulls()
    if len(given) >= ENOUGH and column.distinct > OWN * len(given):
        return f"nearly every row has a value of its own ({different} in {len(given):,} rows)"
    if share(given.str.len_chars() > LONG) > 0.5:
        return "long texts"
    return Feature(column.name, "categorical", f"text, {different}")

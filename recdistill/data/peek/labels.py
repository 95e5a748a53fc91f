"""Which columns are labels, when they became known, and which others give them away."""

from __future__ import annotations

from statistics import median

import polars as pl

from recdistill.config.base import slug
from recdistill.config.data import TaskColumn
from recdistill.data.peek.draft import Guess, Task
from recdistill.data.peek.layout import nameless
from recdistill.data.peek.profile import Profile, problem_of, share
from recdistill.data.peek.times import Moment, times_by
from recdistill.data.peek.words import ACTION, LABEL, MEASURED, has_word, rank, words_of
from recdistill.data.readers.columns import Kind
from recdistill.data.readers.times import label_time_column
from recdistill.data.readers.values import label_column

__all__ = ["copies", "known_by", "label_times", "label_word", "labels_of", "tasks_of"]

STARS = ("rating", "stars")
MAX_STARS = 21  # different ratings
POSITIVE = ("click", "clickout item", "buy", "purchase", "transaction", "order", "like", "view", "pv", "play", "listen")
MANY = 5  # rows to a value from which on a column that tells every label is no chance
LISTED = 3  # tasks made of a column of actions


def tasks_of(columns: dict[str, Profile]) -> list[Task]:
    """Return the tasks that columns suggest, the likeliest first; one that every row is a positive where none does.

    columns: those that are nothing else.
    """
    found = [task for column in columns.values() if (task := _binary(column))]
    found = found or [task for column in columns.values() if (task := _rated(column))]
    found = found or [task for column in columns.values() for task in _acted(column)]
    found = found or [task for column in columns.values() if (task := _measured(column))]
    found.sort(key=lambda task: list(LABEL.values()).index(task.name) if task.name in LABEL.values() else len(LABEL))
    if not found:
        doubt = "positives only? Or name the label: tasks: {click: COLUMN}"
        found = [Task("event", "", 1, "no column looks like a label, so every row counts as a positive", doubt)]
    return _named_apart(found)


def _named_apart(tasks: list[Task]) -> list[Task]:
    """Return the tasks, no two of one name: a second one is called as its column."""
    out: dict[str, Task] = {}
    for task in tasks:
        name, number = task.name, 2
        while name in out:
            name = _task_name(task.column, task.name) if number == 2 else f"{task.name}-{number}"
            number += 1
        out[name] = Task(name, task.column, task.spec, task.reason, task.doubt)
    return list(out.values())


def _task_name(text: str, default: str) -> str:
    """Return a text as a task may be called, `default` where nothing of it is left."""
    return slug(text).strip("_.-")[:40] or default


def label_word(name: str) -> str | None:
    """Return the word by which a name is a label's, None for others: is_click and long_view, not click_region."""
    words = words_of(name)
    words = words[:-1] if words[-1:] in (["flag"], ["binary"]) else words
    counted = has_word(name, ("count", "cnt", "num", "number", "rate", "avg", "mean", "total"))
    return words[-1] if words and words[-1] in LABEL and not counted else None


def _binary(column: Profile) -> Task | None:
    """Return a task of a column called like one that holds 0 and 1, or -1 and 1."""
    word, number = label_word(column.name), column.number if column.single else None
    if number is None or not (word or nameless(column.name)):
        return None
    values = set(number.drop_nulls().unique())
    if word is None:
        doubt = "has no name: is this the label?"
        return Task("label", column.name, column.name, "holds 0 and 1", doubt) if values == {0.0, 1.0} else None
    if values <= {0.0, 1.0}:
        rate = f"positive in {share(number == 1):.1%} of the rows"
        doubt = "always the same" if len(values) == 1 else ""
        return Task(LABEL[word], column.name, column.name, f"called like a label, holds 0 and 1; {rate}", doubt)
    if values == {-1.0, 1.0}:
        return Task(LABEL[word], column.name, {"column": column.name, "equals": 1}, "called like a label, -1 and 1")
    return None


def _rated(column: Profile) -> Task | None:
    word, number = label_word(column.name), column.number if column.single else None
    if word is None or LABEL[word] not in STARS or number is None or column.distinct > MAX_STARS or column.distinct < 2:
        return None
    most = max(number.drop_nulls())
    least = round(0.8 * most, 1)
    liked = f"{share(number >= least):.1%} of the rows are at least {least:g}"
    reason = f"called like a rating, {column.distinct} values up to {most:g}; {liked}"
    return Task("like", column.name, {"column": column.name, "at_least": least}, reason, "from where on is it liked?")


def _acted(column: Profile) -> list[Task]:
    """Return tasks of a column that holds the kind of action."""
    if not column.single or not column.kind.text or column.kind.meant.is_numeric():
        return []
    counts = column.text.drop_nulls().value_counts(sort=True)
    values = counts.get_column(column.name).to_list()
    if not 2 <= len(values) <= 50:
        return []
    known = [value for value in POSITIVE if value in values]
    if not (known and nameless(column.name)) and rank(column.name, ACTION) is None:
        return []
    known = known or values[:1]
    doubt = f"values: {', '.join(values[:8])}. Is a row of another kind a negative, or no sample at all?"
    return [
        Task(
            _task_name(value, "event"), column.name, {"column": column.name, "equals": value},
            f"'{column.name}' holds the kind of action", doubt,
        )
        for value in known[:LISTED]
    ]  # fmt: skip


def _measured(column: Profile) -> Task | None:
    """Return a task of a measured time or share, above its median."""
    if not column.single or column.number is None or not has_word(column.name, MEASURED) or column.distinct < 2:
        return None
    values = column.number.drop_nulls()
    least = median(values)
    doubt = "the median is no more than a start: choose from where on it was worth it"
    spec = {"column": column.name, "at_least": least}
    return Task(_task_name(column.name, "long"), column.name, spec, "measured after the row", doubt)


def labels_of(rows: pl.DataFrame, tasks: list[Task], columns: dict[str, Profile]) -> dict[str, pl.Series]:
    """Return task -> its labels, float32 [n] with nulls, for the tasks whose label the reader can make."""
    out = {}
    kinds: dict[str, Kind] = {name: column.kind for name, column in columns.items()}
    for task in tasks:
        spec = TaskColumn(**task.spec) if isinstance(task.spec, dict) else task.spec
        made = label_column(task.name, spec, kinds, task.column or rows.columns[0])
        if problem_of(rows, made) is None:
            out[task.name] = rows.select(made.value.alias("label")).to_series()
    return out


def label_times(
    moments: list[Moment], columns: dict[str, Profile], time: Guess, unit: str, labels: dict[str, pl.Series]
) -> dict[str, Guess]:
    """Return task -> the column that says when its label was known: a time by the same unit, of every positive, that
    never lies before its row and mostly after it, of the task by its name, or of positives alone.
    """
    start, out = times_by(columns[time.value], unit), {}
    for one in (one for one in moments if one.name != time.value and (one.unit in ("", unit))):
        known = known_by(columns[one.name], unit)
        late = known >= start
        if not late.any() or not late.fill_null(True).all() or not (known > start).any():
            continue
        for task, label in labels.items():
            named = task in {LABEL.get(word, "") for word in words_of(one.name)}
            positives = known.is_not_null() == (label == 1).fill_null(False)
            if task not in out and known.filter((label == 1).fill_null(False)).is_not_null().all():
                if named or positives.all():
                    delay = (known - start).dt.total_seconds().drop_nulls()
                    middle = median(delay)
                    out[task] = Guess(one.name, f"a time after the row's, by {middle:,.0f} s in the middle")
    return out


def known_by(column: Profile, unit: str) -> pl.Series:
    """Return when labels were known by a column, as ingest takes it: null for never."""
    made = label_time_column(column.name, unit or "s", column.kind)
    return column.values.to_frame().select(made.value).to_series()


def copies(column: Profile, labels: dict[str, pl.Series]) -> str | None:
    """Return the task whose label a column tells in every row, None where it tells none.

    By its values, each of them in rows of one label alone and in many rows; or by having a value where, and only where,
    the label is positive.
    """
    for task, label in labels.items():
        given = label.is_not_null()
        one, code = label.filter(given), column.text if column.single else column.values.is_null().cast(pl.String)
        code = code.filter(given).fill_null("\0")
        if one.n_unique() < 2:
            continue
        if bool(((code == "\0") == (one == 0)).all()) or bool(((code == "\0") == (one == 1)).all()):
            return task
        if code.n_unique() <= max(2, len(one) // MANY):
            pairs = pl.DataFrame({"code": code, "label": one}).unique()
            if len(pairs) == code.n_unique():
                return task
        if _ordered_by(column, label):
            return task
    return None


def _ordered_by(column: Profile, label: pl.Series) -> bool:
    """Return whether a threshold on a number parts positives from negatives, with many of each."""
    if not column.single or column.number is None:
        return False
    up, down = (column.number.filter((label == value).fill_null(False)).drop_nulls() for value in (1, 0))
    if min(len(up), len(down)) < 4 * MANY:
        return False
    return bool(min(up) > max(down) or max(up) < min(down))

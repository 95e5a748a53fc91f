"""From some rows of an unknown log to a draft of its experiment file, and what reading the rows by it gives."""

from __future__ import annotations

from dataclasses import replace
from math import ceil
from pathlib import Path

import polars as pl

from recdistill.config.data import TextLayout
from recdistill.config.load import load_text
from recdistill.data.peek.draft import Draft, Feature, Guess, Task
from recdistill.data.peek.features import can_be_named, feature_of, useless
from recdistill.data.peek.ids import lists_share, request_of, sample_of, user_and_item
from recdistill.data.peek.labels import copies, known_by, label_times, label_word, labels_of, tasks_of
from recdistill.data.peek.layout import layout_of
from recdistill.data.peek.lists import listed_columns, sequences_guess, vectors_guess
from recdistill.data.peek.profile import Profile, profiles_of
from recdistill.data.peek.sample import Sample
from recdistill.data.peek.sample import sample_of as rows_of
from recdistill.data.peek.times import Moment, moments_of, time_guess, times_by
from recdistill.data.readers.columns import Kind, names_of
from recdistill.data.readers.files import RawTable
from recdistill.data.readers.rows import EventReader, kinds_in
from recdistill.data.readers.scan import scan_file
from recdistill.errors import UserError
from recdistill.tables.validation import Origin, check_label_times

__all__ = ["draft_of", "peek_text"]

NO_TIME = Guess(
    None, "no column looks like a time", "has the log none? Then rows count in the order given, without histories"
)
SHOWN = 60  # characters of a name that cannot be written
UNNAMED = "its name is empty, too long, or holds a sign that no name may have"
MANY_TOGETHER = 0.2  # share of rows of one user and instant from which on they look like lists
OTHER_TIME = "another time; make of it what a model can use, such as the hour or the age"


def peek_text(path: Path) -> str:
    """Return a first experiment file for the log at `path`, with reasons and doubts as comments.

    Reads a bounded number of rows, and says which. Raises UserError for a log that cannot be read, or has no rows.
    """
    layout = layout_of(path)
    source = scan_file(path, layout)
    sample = rows_of(source)
    if not len(sample.rows):
        raise UserError(f"{path}: the log has no rows")
    draft = draft_of(str(path), sample, kinds_in(source, list(sample.rows.columns)))
    draft = replace(draft, settings=draft.settings | _of_layout(layout))
    return draft.text(_tried(draft, source, sample))


def _of_layout(layout: TextLayout) -> dict[str, Guess]:
    """Return the keys of a text file that is not laid out as its name says."""
    out = {}
    if layout.header:
        doubt = "give the columns names of their own, here and below"
        out["data.header"] = Guess(layout.header, "the first row holds values, not names", doubt)
    if layout.separator:
        out["data.separator"] = Guess(layout.separator, "what separates the columns of the first row")
    return out


def draft_of(path: str, sample: Sample, kinds: dict[str, Kind]) -> Draft:
    """Return the draft for a log of which `sample` was read; kinds: of its columns, as they were written."""
    columns = profiles_of(sample.rows, {name: kind for name, kind in kinds.items() if can_be_named(name)})
    usable = {name: column for name, column in columns.items() if column.single}
    moments = moments_of(usable)
    when = time_guess(usable, moments, sample.rows)
    ids: dict[str, Guess] = {"time": NO_TIME}
    if when:
        ids |= {"time": when[0]} | (
            {"time_unit": Guess(when[1], "by which these times are of our days")} if when[1] else {}
        )
    taken = {when[0].value if when else "", *(one.name for one in moments)}
    ids |= user_and_item(usable, taken, guess_user=when is not None)
    missing = () if "item" in ids else ("no column can be the item; name it as data.columns.item",)
    unnamed = tuple((name[:SHOWN], UNNAMED) for name in kinds if not can_be_named(name))
    draft = Draft(path, sample.looked, ids, left_out=unnamed, missing=missing)
    draft = _with_lists(draft, usable, sample)
    draft = _with_labels(draft, usable, moments, sample)
    draft = _with_long_lists(draft, columns)
    draft = _with_features(draft, columns, {one.name for one in moments}, sample)
    return _with_settings(draft, usable, sample)


def _column(draft: Draft, key: str) -> str:
    """Return the column of a key, '' where there is none."""
    return str(draft.ids[key].value or "") if key in draft.ids else ""


def _used(draft: Draft) -> set[str]:
    keys = [_column(draft, key) for key in draft.ids if key != "time_unit"]
    labels = {*(task.column for task in draft.tasks), *(str(one.value) for one in draft.label_times.values())}
    return {*keys, *labels, *listed_columns(draft.settings)}


def _times(draft: Draft, columns: dict[str, Profile]) -> pl.Series | None:
    name = _column(draft, "time")
    return times_by(columns[name], _column(draft, "time_unit")) if name else None


def _with_lists(draft: Draft, columns: dict[str, Profile], sample: Sample) -> Draft:
    """Return the draft with the request and the sample's id."""
    times, user = _times(draft, columns), _column(draft, "user")
    ids = dict(draft.ids)
    if own := sample_of(columns, _used(draft), sample.whole):
        ids["sample_id"] = own
    together = lists_share(columns[user].text, times) if user and times is not None else 0.0
    if user and (request := request_of(columns, _used(replace(draft, ids=ids)), user, times)):
        ids["request"] = request
        return replace(draft, ids=ids, settings={"evaluate.group": Guess("request", "lists are ranked each by itself")})
    hints = draft.hints
    if together > MANY_TOGETHER:
        hints += (
            f"{together:.0%} of the rows share user and instant with another: shown as a list? If a column names the "
            "list, set data.columns.request to it and evaluate.group to request",
        )
    return replace(draft, ids=ids, hints=hints)


def _with_labels(draft: Draft, columns: dict[str, Profile], moments: list[Moment], sample: Sample) -> Draft:
    """Return the draft with tasks and label times, and what they ask for."""
    taken = _used(draft) | {one.name for one in moments}
    free = {name: column for name, column in columns.items() if name not in taken}
    labels = labels_of(sample.rows, tasks := tasks_of(free), columns)
    tasks = [task for task in tasks if task.name in labels] or [
        Task("event", "", 1, "no label can be read", "which is it?")
    ]
    draft = replace(draft, tasks=tuple(tasks))
    if not any((label == 0).any() for label in labels.values()):
        hint = (
            "every row looks like a positive: nothing can be ranked without negatives; see data.negatives, as in "
            "negatives: {per_positive: 3, window_hours: 24} with evaluate: {group: request}"
        )
        draft = replace(draft, hints=(*draft.hints, hint))
    if not _column(draft, "time"):
        return draft
    unit = _column(draft, "time_unit")
    known = label_times(moments, columns, draft.ids["time"], unit, labels)
    return _with_window(replace(draft, label_times=known), columns, labels, unit)


def _with_window(draft: Draft, columns: dict[str, Profile], labels: dict[str, pl.Series], unit: str) -> Draft:
    """Return the draft with `labels.window_s` where negatives have no time when they were known."""
    longest = 0.0
    start = _times(draft, columns)
    for task, guess in draft.label_times.items():
        known = known_by(columns[guess.value], unit)
        if start is not None and (known.is_null() & labels[task].is_not_null()).any():
            longest = max([longest, *(known - start).dt.total_seconds().drop_nulls()])
    if not longest:
        return draft
    reason = (
        "negatives have no label time: no outcome until then is one; the longest wait in these rows, in whole hours"
    )
    guess = Guess(max(3600, ceil(longest / 3600) * 3600), reason, "how long do you wait for an outcome?")
    hint = "labels become known after their rows: label_times and labels.window_s say when models may learn them"
    return replace(draft, settings=draft.settings | {"labels.window_s": guess}, hints=(*draft.hints, hint))


def _with_long_lists(draft: Draft, columns: dict[str, Profile]) -> Draft:
    """Return the draft with lists of items as sequences, where rows have times, and lists of fractions as vectors."""
    free = {name: one for name, one in columns.items() if not one.single and not useless(one)}
    item = columns.get(_column(draft, "item"))
    sequences = sequences_guess(free, item) if _column(draft, "time") else None
    found = {"data.columns.sequences": sequences, "data.vectors": vectors_guess(free)}
    return replace(draft, settings=draft.settings | {key: guess for key, guess in found.items() if guess})


def _with_features(draft: Draft, columns: dict[str, Profile], moments: set[str], sample: Sample) -> Draft:
    """Return the draft with every other column as a feature, or left out with the reason."""
    labels = labels_of(sample.rows, list(draft.tasks), columns)
    features: list[Feature] = []
    left_out, used = list(draft.left_out), _used(draft)
    for name, column in columns.items():
        if name in used:
            continue
        found = OTHER_TIME if name in moments else _feature(column, labels, sample)
        if isinstance(found, Feature):
            features.append(found)
        else:
            left_out.append((name, found))
    return replace(draft, features=tuple(features), left_out=tuple(left_out))


def _feature(column: Profile, labels: dict[str, pl.Series], sample: Sample) -> Feature | str:
    if why := useless(column):
        return why
    if task := copies(column, labels):
        return f"tells the label of task '{task}' in every row: a copy of it?"
    if column.single and label_word(column.name) and column.number is not None:
        return "called like an outcome, which a model may not know"
    return feature_of(column, sample.rows)


def _with_settings(draft: Draft, columns: dict[str, Profile], sample: Sample) -> Draft:
    """Return the draft with sort, drop_missing and dtypes where the rows ask for them."""
    settings, times = dict(draft.settings), _times(draft, columns)
    known = pl.Series(dtype=pl.Int64) if times is None else times.dt.epoch("us").fill_null(-1)
    missing = any(columns[name].missing for key in ("user", "item") if (name := _column(draft, key)))
    if missing or (known < 0).any():
        settings["data.drop_missing"] = Guess(True, "some rows have no user, item or usable time; ingest counts them")
    if not known.filter(known >= 0).is_sorted():
        settings["data.sort"] = Guess(True, "rows are not in the order of time; sorting needs the log in memory")
    elif len(known) and not sample.whole:
        hint = "the rows looked at are in the order of time; if ingest finds others, set sort: true under data"
        draft = replace(draft, hints=(*draft.hints, hint))
    return replace(draft, settings=settings)


def _tried(draft: Draft, source: RawTable, sample: Sample) -> str:
    """Return a line that says what reading the sample by the draft gives."""
    try:
        experiment = load_text(draft.text(), where="the draft")
        table = RawTable(source.path, sample.rows.lazy(), source.kinds)
        data = experiment.data
        reader = EventReader(table, data.columns, data.sort, drop_missing=data.drop_missing)
        (schema, made), rows = reader.mapped(), 0
        schema.check_group(experiment.evaluate.group)
        for chunk in reader.chunks():
            origin = Origin(str(source.path), pl.int_range(rows, rows + len(chunk), eager=True), names_of(made))
            check_label_times(chunk, schema.label_times, origin, experiment.labels.window_s is not None)
            rows += len(chunk)
    except UserError as error:
        return f"? Not readable yet: {error}"
    return f"Tried: {rows:,} of these {len(sample.rows):,} rows are read by it."

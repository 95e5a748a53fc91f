"""What a log holds, as a record of `data.json`: its size, ids, labels and features, and what is odd in them."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict

__all__ = ["DataSummary", "FeatureSummary", "Ids", "SequenceSummary", "TaskRate", "data_sentence"]

EMPTY = 0.9  # share of the rows without a value, from which on a feature is named
REPEATED = 0.1  # share of the rows that repeat another, likewise; a list may show an item twice
TELLING = 0.98  # AUC of one feature alone, from which on it is taken for the label itself

NO_USERS = (
    "The log has no users: every row is alone, without a history from others, earlier counts of its user or GAUC by "
    "user, and intervals draw rows"
)
NO_TIMES = (
    "The log has no times: rows count in the order given, without histories; times that are shown are row numbers, in "
    "microseconds from 2000-01-01"
)


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Ids(_Part):
    """Users or items of the samples: how many there are, and how many of them stand in one row only."""

    distinct: int
    once: int


class TaskRate(_Part):
    """rows: with a known label; positive: the share of them that is 1, null without any and of values."""

    task: str
    rows: int
    positive: float | None


class FeatureSummary(_Part):
    """One feature. empty: share of the rows without a value (a list without entries, a number that is none).

    values: different ones, of numbers an estimate from 4,096 on, of lists those that models see; buckets: of a number,
    how many are in use; edges: how they were chosen, log where nothing was known of the values; scale: what is made of
    a number to be read as a value; largest: share of the other rows that the most frequent value or bucket has, null of
    lists and of features without any value; lists_cut, entries_cut: lists longer than `data.list_length`, and their
    oldest entries, which models do not see; auc: task -> what the feature scores alone, null where a class has too few
    rows.
    """

    feature: str
    kind: Literal["category", "number", "list"]
    empty: float
    values: int
    buckets: int | None = None
    edges: Literal["quantile", "log"] | None = None
    scale: str | None = None
    largest: float | None = None
    lists_cut: int = 0
    entries_cut: int = 0
    auc: dict[str, float | None] = {}

    def oddities(self, rows: int) -> list[str]:
        """Return a sentence for each thing about this feature of a log of `rows` rows that its user should know."""
        found = []
        if self.empty >= EMPTY:
            found.append(f"Feature '{self.feature}' is empty in {_percent(self.empty)} of the rows")
        if self.empty < 1 and (self.buckets or self.values) == 1:
            bucket = f"; its {self.values:,} values fall into one bucket" if self.values > 1 else ""
            found.append(
                f"Feature '{self.feature}' is constant: models see one value in every row that has any{bucket}"
            )
        if self.lists_cut:
            found.append(
                f"Feature '{self.feature}': {self.lists_cut:,} of {rows:,} lists are longer than data.list_length, and "
                f"their oldest {self.entries_cut:,} entries are left out"
            )
        scores = [f"{auc:.4f} on {task}" for task, auc in self.auc.items() if auc is not None and auc >= TELLING]
        if scores:
            found.append(
                f"Feature '{self.feature}' alone scores AUC {', '.join(scores)}. Likely cause: it is the label, or was "
                "made of it or after it; leave it out of data.columns"
            )
        return found


class SequenceSummary(_Part):
    """A sequence that rows bring. empty: share of the rows without an entry; mean, longest: entries of the others."""

    sequence: str
    empty: float
    mean: float
    longest: int

    def words(self) -> str:
        """Return the same in words."""
        return f"empty in {_percent(self.empty)} of the rows, else {self.mean:.1f} entries, at most {self.longest:,}"


class DataSummary(_Part):
    """The samples of an events table as of `version`. first, last, users: null where the log has no times, no users.
    requests: result lists, null without request ids, an estimate from 4,096 on; repeated: rows that have user, item and
    time of an earlier row, null where the log lacks one of them; notes: what was printed when the log was read.
    """

    version: int
    rows: int
    first: datetime | None
    last: datetime | None
    users: Ids | None
    items: Ids
    requests: int | None
    repeated: int | None
    tasks: list[TaskRate]
    features: list[FeatureSummary]
    sequences: list[SequenceSummary] = []
    notes: list[str] = []

    def warnings(self) -> list[str]:
        """Return a sentence for each thing that a reader of any score should know."""
        found = ([NO_USERS] if self.users is None else []) + ([NO_TIMES] if self.first is None else [])
        found += [
            f"Every known label of {one.task} is {one.positive:.0f}: there is nothing to learn from"
            for one in self.tasks
            if one.positive in (0.0, 1.0)
        ]
        if self.repeated is not None and self.repeated > REPEATED * self.rows:
            share = _percent(self.repeated / self.rows)
            found.append(f"{share} of the rows have user, item and time of an earlier row: the log may hold rows twice")
        found += [line for one in self.features for line in one.oddities(self.rows)]
        return found + [
            f"Sequence '{one.sequence}' is empty in {_percent(one.empty)} of the rows"
            for one in self.sequences
            if one.empty >= EMPTY
        ]


def data_sentence(data: DataSummary) -> str:
    """Return in one line what a log holds besides its size."""
    rates = [
        f"{one.task} {_percent(one.positive)} positive of {one.rows:,} known"
        if one.positive is not None
        else f"{one.task} values, {one.rows:,} known"
        if one.rows
        else one.task
        for one in data.tasks
    ]
    once = [
        f"{ids.once:,} of {ids.distinct:,} {name}"
        for name, ids in (("users", data.users), ("items", data.items))
        if ids
    ]
    parts = [", ".join(rates), f"{' and '.join(once)} in one row only"]
    if data.requests:
        parts.append(f"{data.rows / data.requests:.3g} rows per request")
    if data.repeated is not None:
        parts.append(f"{data.repeated:,} rows repeat user, item and time of an earlier one")
    return "; ".join(parts)


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"

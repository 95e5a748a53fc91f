"""From a run's tables to its file of histories: a user's newest events whose outcome is known, as training has them.

    behaviors table    its rows are the events
    samples            an event when the outcome of the first task is known; labels.window_s as in training: without a
                       positive within the window a sample counts as negative from the window's end, a later positive
                       comes as an event of its own
    outcomes table     labels that become known after their samples, of a stream

What is known since when is a function of the tables alone, so it does not matter how they are cut into commits, nor
when a process that was killed goes on.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from enum import IntEnum

import polars as pl

from recdistill.config.experiment import Experiment
from recdistill.data.store.label_order import LabelClock
from recdistill.defaults import GIVEN_HISTORY, SECOND
from recdistill.errors import UserError
from recdistill.runs.batch_ingest import handed_over
from recdistill.runs.folder import RunFolder
from recdistill.serve.histories_record import Event
from recdistill.stream.histories.rows import (
    NEGATIVE,
    POSITIVE,
    events_of_behaviors,
    events_of_samples,
    sample_columns,
)
from recdistill.stream.histories.store import HistoriesStore
from recdistill.tables.delta.commits import Commit, check_follows, newest_after, open_delta
from recdistill.tables.delta.log import DeltaLog
from recdistill.tables.events import BehaviorLog, EventLog, OutcomeLog

__all__ = ["Follower", "SampleState"]

COMMITS = 64  # of one transaction


class SampleState(IntEnum):
    """What is known of a sample whose outcome may still come."""

    OPEN = 0  # counts as negative from its window's end
    NEGATIVE = 1  # an outcome named it negative
    FINAL = 2


class Follower:
    """Reads what is new in a run's tables into its histories. length: how many known events to keep of a user.

    Raises UserError for a run whose log has no users or times, or brings its histories with its rows.
    """

    def __init__(self, folder: RunFolder, experiment: Experiment, store: HistoriesStore, length: int) -> None:
        self.store, self.length = store, length
        self.events = EventLog.open(folder.tables / "events")
        self.schema = self.events.schema
        if not self.schema.has_histories or GIVEN_HISTORY in self.schema.sequences:
            raise UserError(f"{folder.root}: its log has no histories to keep: {_why(self.schema.has_histories)}")
        self.clock = replace(LabelClock.of(experiment.labels), positive_from=self.schema.positive_from)
        self.late = round(min(experiment.stream.late_s, 1e11) * SECOND)
        self.handed = handed_over(self.events)
        behaviors, outcomes = folder.tables / "behaviors", folder.tables / "outcomes"
        self.behaviors = BehaviorLog.open(behaviors) if behaviors.exists() else None
        self.outcomes = OutcomeLog.open(outcomes) if outcomes.exists() and self.behaviors is None else None

    @property
    def tables(self) -> dict[str, DeltaLog]:
        """Return the tables that are read, by name."""
        if self.behaviors is not None:
            return {"behaviors": self.behaviors}
        return {"events": self.events} | ({"outcomes": self.outcomes} if self.outcomes is not None else {})

    def begin(self) -> bool:
        """Fill the file from the start unless it can go on from where it is; return whether it was filled."""
        identity = {name: open_delta(log.path).metadata().id for name, log in self.tables.items()}
        about = self.store.about
        if about.get("table") == identity and about.get("length") == self.length and self._reaches():
            return False
        with self.store.transaction():
            self.store.empty(table=identity, length=self.length, read={})
            read = {name: log.version for name, log in self.tables.items()}
            self._fill(read)
            self._looked(read)
        return True

    def _reaches(self) -> bool:
        """Return whether every commit after what was read is still there."""
        try:
            for name, log in self.tables.items():
                check_follows(log.path, self.store.about["read"][name])
        except UserError:
            return False
        return True

    def _fill(self, read: dict[str, int]) -> None:
        """Read the tables up to the versions `read`."""
        self.store.note(revision=1)
        if self.behaviors is not None:
            for rows in self.behaviors.batches(read["behaviors"]):
                self._take_behaviors(rows)
            return
        batch, done = self.handed.rows if self.handed else self.events.rows(read["events"]), 0
        for rows in self.events.batches(read["events"], sample_columns(self.schema)):
            first = max(0, min(batch - done, len(rows)))
            self._take_samples(rows[:first], streamed=False)
            self._take_samples(rows[first:], streamed=True)
            done += len(rows)
        if self.outcomes is not None:
            for rows in self.outcomes.batches(read["outcomes"]):
                self._take_outcomes(rows)
        self._forget()

    def step(self) -> int:
        """Read the commits that are new, some at a time; return how many rows they hold."""
        read = dict(self.store.about["read"])
        ahead = {name: self._ahead(log, read[name]) for name, log in self.tables.items()}
        if not any(ahead.values()):
            if time.time() - self.store.about["looked"] > 1:
                self._looked(read)
            return 0
        with self.store.transaction():
            self.store.note(revision=self.store.about["revision"] + 1)
            rows = 0
            for name, commits in ahead.items():
                for commit in commits:
                    rows += self._take(name, commit)
                    read[name] = commit.version
            self._forget()
            self._looked(read)
        return rows

    def _ahead(self, log: DeltaLog, read: int) -> list[Commit]:
        return list(log.commits(read, min(newest_after(log.path, read), read + COMMITS)))

    def _take(self, name: str, commit: Commit) -> int:
        if not commit.parts:
            return 0
        columns = sample_columns(self.schema) if name == "events" else None
        rows = self.tables[name].read(commit, columns)
        if name == "behaviors":
            self._take_behaviors(rows)
        elif name == "outcomes":
            self._take_outcomes(rows)
        else:
            self.handed = self.handed or handed_over(self.events)  # a stream may begin meanwhile
            self._take_samples(rows, streamed=self.handed is not None)
        return len(rows)

    def _looked(self, read: dict[str, int]) -> None:
        self.store.note(read=read, looked=time.time())

    def _reached(self, rows: pl.DataFrame) -> None:
        """Let time be that of the newest row."""
        newest = int(rows["time"].dt.epoch("us").max()) / SECOND  # type: ignore[arg-type]
        self.store.note(newest=max(self.store.about["newest"], newest))

    def _take_behaviors(self, rows: pl.DataFrame) -> None:
        if len(rows):
            self._reached(rows)
            self.store.add(events_of_behaviors(rows))

    def _take_samples(self, rows: pl.DataFrame, streamed: bool) -> None:
        """Add samples. Of a stream with a window, those that came without a label wait for their outcome."""
        if not len(rows):
            return
        self._reached(rows)
        if not streamed or self.clock.window is None:
            self.store.add(events_of_samples(rows, self.schema, self.clock))
            return
        blank = pl.col(f"label_{self.schema.tasks[0]}").is_null()
        known = replace(self.clock, window=None)  # who sent the label knew when
        self.store.add(events_of_samples(rows.filter(~blank), self.schema, known))
        self._wait(rows.filter(blank), self.clock.window)
        self._decide(self.store.take_early())

    def _wait(self, rows: pl.DataFrame, window: int) -> None:
        time_ = pl.col("time").dt.epoch("us")
        of = rows.select("sample_id", user=pl.col("user_id").cast(pl.String), item="item_id", time=time_)
        self.store.wait((*row, int(SampleState.OPEN)) for row in of.iter_rows())
        made = of.select("user", "item", "time", known=pl.col("time") + window, action=pl.lit(NEGATIVE))
        self.store.add(made)

    def _take_outcomes(self, rows: pl.DataFrame) -> None:
        """Add outcomes of the first task; histories show no other."""
        mine = rows.filter(pl.col("task") == self.schema.tasks[0])
        self._decide(mine.select("sample_id", "label", pl.col("time").dt.epoch("us")).iter_rows())

    def _decide(self, outcomes: Iterator[tuple[int, float, int]] | list[tuple[int, float, int]]) -> None:
        """Take outcomes (sample, label, time us); the first holds, but a positive replaces a negative."""
        unmet = []
        for sample, label, known in outcomes:
            found = self.store.waiting(sample)
            if found is None:
                unmet.append((sample, label, known))
            else:
                self._outcome(sample, found, label == 1, known)
        self.store.put_early(unmet)

    def _outcome(self, sample: int, found: tuple[str, int | str, int, int], positive: bool, known: int) -> None:
        user, item, happened, state = found
        end = happened + (self.clock.window or 0)
        soon, known = known <= end, max(known, happened)
        if state == SampleState.FINAL or not (positive or (soon and state == SampleState.OPEN)):
            return self.store.drop("outcome twice")
        if not soon and self.clock.late == "ignore":
            return self.store.drop("outcome late")
        event = Event(item, happened / SECOND, known / SECOND, POSITIVE if positive else NEGATIVE)
        assumed = Event(item, happened / SECOND, end / SECOND, NEGATIVE)
        self.store.change(user, [event], [assumed] if soon and state == SampleState.OPEN else [])
        self.store.decided(sample, SampleState.FINAL if positive else SampleState.NEGATIVE)

    def _forget(self) -> None:
        """Let samples and outcomes wait no longer to which nothing can happen any more."""
        before = round(self.store.about["newest"] * SECOND) - (self.clock.window or 0) - self.late
        if unmet := self.store.forget(before):
            self.store.drop("outcome of no sample", unmet)


def _why(has: bool) -> str:
    return "its rows bring their own" if has else "it has no users or no times"

"""The input tables, followed: each commit's samples into the live store, after the behaviors and outcomes that came before it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from recdistill.data.live import LiveStore
from recdistill.stream.about import IngestAbout, read_about
from recdistill.stream.ingest import ingests
from recdistill.stream.joiner import empty_columns
from recdistill.tables import BehaviorLog, EventLog, OutcomeLog
from recdistill.tables.follow import Commit, newest_after

__all__ = ["Inbox"]

Array = np.ndarray[Any, np.dtype[Any]]
WITHOUT = pl.DataFrame(schema={"sample_id": pl.Int64(), "task": pl.Int8(), "label": pl.Float32(), "time": pl.Int64()})


class Inbox:
    """Follows `tables` from the hand-over on; `versions` are those read up to, by table.

    A commit of events names the versions of the other tables that were there when it was made; these are read first,
    and no further, so what a sample can know does not depend on who reads when.
    """

    def __init__(self, tables: Path, store: LiveStore, versions: dict[str, int]) -> None:
        self.store, self.versions = store, dict(versions)
        self.events = EventLog.open(tables / "events")
        self.behaviors = BehaviorLog.open(tables / "behaviors") if (tables / "behaviors").exists() else None
        self.outcomes = OutcomeLog.open(tables / "outcomes") if (tables / "outcomes").exists() else None
        self.newest = 0  # event time of the newest sample anywhere in the table, us
        self.told = WITHOUT  # outcomes read and not taken yet
        self._looked = self.versions["events"]
        self._ingests: dict[int, IngestAbout] = {}  # the newest word of each reader of the source

    def read(self) -> int | None:
        """Read the next commit of events, if there is one; return its number of samples, None when there is none."""
        for commit in self.events.commits(self.versions["events"]):
            told = read_about(IngestAbout, commit.about)
            about = told or IngestAbout()  # others only move rows about
            self._read_behaviors(about.seen)
            self._read_outcomes(about.seen)
            rows = self.events.read(commit) if commit.parts else pl.DataFrame()
            if len(rows):
                self.store.add(rows, **_columns(len(rows), len(self.events.schema.tasks), about.published))
            self.versions["events"] = commit.version
            self._ingests |= {about.reader: about} if told else {}
            return len(rows)
        return None

    def resume(self, versions: dict[str, int]) -> None:
        """Go on after `versions`."""
        self.versions = {name: versions[name] for name in self.versions}
        self._ingests = ingests(self.events, self.versions["events"])

    def take(self) -> pl.DataFrame:
        """Return the outcomes read since the last call, in order: sample_id, task (its number), label, time us."""
        told, self.told = self.told, WITHOUT
        return told

    def ended(self) -> bool:
        """Return whether the newest commit of events was read, and says that no more will come."""
        over = [about.end for about in self._ingests.values()]
        if not over or not all(over) or len(over) < next(iter(self._ingests.values())).readers:
            return False
        return newest_after(self.events.path, self.versions["events"]) == self.versions["events"]

    def look_ahead(self) -> int:
        """Return the event time, us, of the newest sample in the table, read or not."""
        version = newest_after(self.events.path, self._looked)
        if version > self._looked:
            self._looked = version
            told: list[Commit] = list(self.events.commits(version - 1, version))
            about = read_about(IngestAbout, told[0].about)
            self.newest = max(self.newest, about.watermark if about else 0)
        return max(self.newest, self.store.newest)

    def _read_behaviors(self, seen: dict[str, int]) -> None:
        if self.behaviors is None or "behaviors" not in seen:
            return
        for commit in self.behaviors.commits(self.versions["behaviors"], seen["behaviors"]):
            if commit.parts:
                self.store.add_behaviors(self.behaviors.read(commit))
            self.versions["behaviors"] = commit.version

    def _read_outcomes(self, seen: dict[str, int]) -> None:
        if self.outcomes is None or "outcomes" not in seen:
            return
        numbers = {task: k for k, task in enumerate(self.events.schema.tasks)}
        for commit in self.outcomes.commits(self.versions["outcomes"], seen["outcomes"]):
            if commit.parts:
                task = pl.col("task").replace_strict(numbers, return_dtype=pl.Int8())
                rows = self.outcomes.read(commit).select("sample_id", task, "label", pl.col("time").dt.epoch("us"))
                self.told = pl.concat([self.told, rows])
            self.versions["outcomes"] = commit.version


def _columns(rows: int, tasks: int, published: float) -> dict[str, Array]:
    """Return what the models keep of `rows` new samples beside the store's own columns."""
    times = {"arrived": np.full(rows, time.time()), "published": np.full(rows, published)}
    return {**times, "stage": np.zeros((rows, tasks), np.int8), "said": np.zeros(rows, np.float32), **empty_columns(rows, tasks)}

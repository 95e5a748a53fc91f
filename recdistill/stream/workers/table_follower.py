"""The input tables, followed: each commit's samples into the live store, after the behaviors and outcomes that came
before it.

A thread reads and encodes the next commit while the model learns from those before.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import polars as pl

from recdistill.data.store.live_store import Encoded, LiveStore
from recdistill.storage.location import Location
from recdistill.stream.ingest.process import ingests
from recdistill.stream.progress import IngestProgress, read_progress
from recdistill.stream.workers.signal_joiner import empty_columns
from recdistill.tables.delta.commits import Commit, newest_after
from recdistill.tables.delta.log import DeltaLog
from recdistill.tables.events import BehaviorLog, EventLog, OutcomeLog
from recdistill.typing import Array

__all__ = ["NO_OUTCOMES", "TableFollower"]

AHEAD = 4  # commits read before they are asked for
NO_OUTCOMES = pl.DataFrame(
    schema={"sample_id": pl.Int64(), "task": pl.Int8(), "label": pl.Float32(), "time": pl.Int64()}
)


@dataclass(frozen=True)
class _Piece:
    """A commit of events and what came before it, read: versions of the tables after it, new progress
    of readers, encoded rows.
    """

    versions: dict[str, int]
    progress: dict[int, IngestProgress]
    samples: Encoded | None
    behaviors: list[dict[str, Array]]
    outcomes: list[pl.DataFrame]
    published: float


class TableFollower:
    """Follows `tables` from the hand-over on; `versions` are those read up to, by table.

    A commit of events names the versions of the other tables that were there when it was made; these are read first,
    and no further, so what is known at a sample's time does not depend on who reads when. candidates: of how many per
    sample there are signals.
    """

    def __init__(self, tables: Location, store: LiveStore, versions: dict[str, int], candidates: int = 0) -> None:
        self.store, self.versions, self.candidates = store, dict(versions), candidates
        self.events = EventLog.open(tables / "events")
        self.behaviors = BehaviorLog.open(tables / "behaviors") if (tables / "behaviors").exists() else None
        self.outcomes = OutcomeLog.open(tables / "outcomes") if (tables / "outcomes").exists() else None
        self.newest = 0  # event time of the newest sample anywhere in the table, us
        self.outcomes_read = NO_OUTCOMES  # and not taken yet
        self._looked = self.versions["events"]
        self._thread = ThreadPoolExecutor(1)
        self._ahead: deque[Future[_Piece]] = deque()
        self._ingests: dict[int, IngestProgress] = {}  # the newest progress of each reader of the source

    def read(self) -> int | None:
        """Put the next commit of events into the store; return its number of samples, None when there is none."""
        self._read_ahead()
        if not self._ahead:
            return None
        piece = self._ahead.popleft().result()
        for behaviors in piece.behaviors:
            self.store.append_behaviors(behaviors)
        self.outcomes_read = pl.concat([self.outcomes_read, *piece.outcomes])
        rows = len(piece.samples.columns["time"]) if piece.samples else 0
        if piece.samples:
            self.store.append(
                piece.samples, **_columns(rows, len(self.events.schema.tasks), piece.published, self.candidates)
            )
        self.versions = piece.versions
        self._ingests |= piece.progress
        return rows

    def settle(self) -> None:
        """Let the thread come to rest: the store's vocabularies are complete up to the commit that it
        reads, and change no more.
        """
        for ahead in self._ahead:
            ahead.result()

    def _read_ahead(self) -> None:
        """Let the thread read on to the newest commit of events, AHEAD at most."""
        read = self.versions["events"] + len(self._ahead)
        for _ in range(min(AHEAD - len(self._ahead), newest_after(self.events.path, read) - read)):
            self._ahead.append(self._thread.submit(self._piece, self._ahead[-1] if self._ahead else None))

    def _piece(self, before: Future[_Piece] | None) -> _Piece:
        """Read the commit of events after another."""
        versions = dict(before.result().versions if before else self.versions)
        commit = next(self.events.commits(versions["events"]))
        found = read_progress(IngestProgress, commit.metadata)
        progress = found or IngestProgress()  # others only rearrange files
        seen = progress.seen
        behaviors = [self.store.encode_behaviors(rows) for rows in _new(self.behaviors, "behaviors", versions, seen)]
        outcomes = [self._numbered(rows) for rows in _new(self.outcomes, "outcomes", versions, seen)]
        rows = self.events.read(commit) if commit.parts else pl.DataFrame()
        samples = self.store.encode(rows) if len(rows) else None
        versions["events"] = commit.version
        readers = {progress.reader: progress} if found else {}
        return _Piece(versions, readers, samples, behaviors, outcomes, progress.published)

    def _numbered(self, outcomes: pl.DataFrame) -> pl.DataFrame:
        numbers = {task: k for k, task in enumerate(self.events.schema.tasks)}
        task = pl.col("task").replace_strict(numbers, return_dtype=pl.Int8())
        return outcomes.select("sample_id", task, "label", pl.col("time").dt.epoch("us"))

    def resume(self, versions: dict[str, int]) -> None:
        """Go on after `versions`."""
        self.versions = {name: versions[name] for name in self.versions}
        self._ingests = ingests(self.events, self.versions["events"])

    def take_outcomes(self) -> pl.DataFrame:
        """Return the outcomes read since the last call, in order: sample_id, task (its number), label, time us."""
        outcomes, self.outcomes_read = self.outcomes_read, NO_OUTCOMES
        return outcomes

    def ended(self) -> bool:
        """Return whether the newest commit of events was read, and every reader has reported the end."""
        over = [progress.end for progress in self._ingests.values()]
        if not over or not all(over) or len(over) < next(iter(self._ingests.values())).readers:
            return False
        return newest_after(self.events.path, self.versions["events"]) == self.versions["events"]

    def look_ahead(self) -> int:
        """Return the event time, us, of the newest sample in the table, read or not."""
        version = newest_after(self.events.path, self._looked)
        if version > self._looked:
            self._looked = version
            newest: list[Commit] = list(self.events.commits(version - 1, version))
            progress = read_progress(IngestProgress, newest[0].metadata)
            self.newest = max(self.newest, progress.watermark if progress else 0)
        return max(self.newest, self.store.newest)


def _new(log: DeltaLog | None, name: str, versions: dict[str, int], seen: dict[str, int]) -> Iterator[pl.DataFrame]:
    """Yield the rows of a table's commits after `versions` up to `seen`, and move `versions` on."""
    if log is None or name not in seen:
        return
    for commit in log.commits(versions[name], seen[name]):
        if commit.parts:
            yield log.read(commit)
        versions[name] = commit.version


def _columns(rows: int, tasks: int, published: float, candidates: int) -> dict[str, Array]:
    """Return the columns that a model keeps of `rows` new samples besides the store's own."""
    times = {"arrived": np.full(rows, time.time()), "published": np.full(rows, published)}
    own: dict[str, Array] = {"label_status": np.zeros((rows, tasks), np.int8), "logit": np.zeros(rows, np.float32)}
    return {**times, **own, **empty_columns(rows, tasks, candidates)}

"""A model's predictions, into their table: each sample's logits once, however often the model starts again."""

from __future__ import annotations

import time
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace

import polars as pl

from recdistill.checkpoint.store import Checkpoint, Checkpoints
from recdistill.stream.progress import ModelProgress, to_metadata
from recdistill.tables.predictions import PredictionLog
from recdistill.testing.killpoints import reach
from recdistill.typing import Array

__all__ = ["PredictionWriter", "Versions"]

BUSY, IDLE = 0.25, 1.0  # seconds from one commit to the next when there are many rows, and when there are few


@dataclass(frozen=True)
class Versions:
    """The versions of a model's rows since the hand-over: row r is of version `first + r // rows`."""

    first: int
    rows: int

    def of(self, row: int) -> int:
        """Return the version that predicts row `row`."""
        return self.first + row // self.rows

    def end(self, version: int) -> int:
        """Return the row after the last of `version`."""
        return (version - self.first + 1) * self.rows


class PredictionWriter:
    """Buffers logits and commits them when there are `commit_rows`, four times a second at most, or what there is after
    a second.

    Rows are counted since the hand-over. A writer's sequence number holds how many it has recorded, so rows that a
    model predicts again after a restart are recognised and left out, wherever its commits were cut. metadata: of every
    commit.
    """

    def __init__(
        self,
        log: PredictionLog,
        model: str,
        writer: str,
        metadata: dict[str, str],
        versions: Versions,
        commit_rows: int,
    ) -> None:
        self.log, self.model, self.writer, self.metadata = log, model, writer, metadata
        self.versions, self.commit_rows = versions, commit_rows
        self.rows = 0  # predicted since the hand-over, by this state of the model
        self.recorded = 0  # in the table, by any
        self._waiting: list[pl.DataFrame] = []
        self._last = 0.0
        self._writing: deque[Future[None]] = deque()
        self._thread = ThreadPoolExecutor(1)

    def start(self, rows: int) -> None:
        """Go on after `rows` rows; what is in the table beyond will be predicted again."""
        self.rows, self._waiting, self._last = rows, [], time.monotonic()
        self.recorded = max(self.log.last_sequence(self.writer), 0) // 2

    def record(self, sample_id: Array, times: Array, logits: Array, channels: dict[str, Array]) -> None:
        """Take the logits [n, K] of samples at `times` us, and the further `channels` [n, ...], in the order in which
        the model predicts them.
        """
        skip = min(max(self.recorded - self.rows, 0), len(sample_id))
        self.rows += len(sample_id)
        if skip < len(sample_id):
            further = {name: values[skip:] for name, values in channels.items()}
            self._waiting.append(self.log.rows_of(sample_id[skip:], times[skip:], logits[skip:], further))

    @property
    def next_version(self) -> int:
        """Return the version that the next row is of."""
        return self.versions.of(self.rows)

    @property
    def due(self) -> bool:
        """Return whether it is time to commit."""
        waiting, since = sum(map(len, self._waiting)), time.monotonic() - self._last
        return (waiting >= self.commit_rows and since > BUSY) or (waiting > 0 and since > IDLE)

    def flush(self, progress: ModelProgress) -> None:
        """Commit what waits, a commit per version, with how the model fares; where that has `end`, a last, empty one.

        A thread does it while the model goes on; what went wrong there is raised by the next call, or by `settle`.
        """
        self.settle(1)
        rows = pl.concat(self._waiting) if self._waiting else pl.DataFrame()
        self._waiting, self._last = [], time.monotonic()
        self._writing.append(self._thread.submit(self._commit, rows, replace(progress, rows=self.rows)))

    def publish(self, checkpoints: Checkpoints, checkpoint: Checkpoint) -> None:
        """Let the thread publish a checkpoint of this many rows, after what was flushed before: it refers
        to no row that could be lost.
        """
        self._writing.append(self._thread.submit(checkpoints.publish, self.rows, checkpoint))

    def settle(self, left: int = 0) -> None:
        """Wait until what was flushed and published is on disk, all but the last `left` pieces of work."""
        while len(self._writing) > left:
            self._writing.popleft().result()

    def _commit(self, rows: pl.DataFrame, progress: ModelProgress) -> None:
        while len(rows):
            version = self.versions.of(self.recorded)
            count = min(len(rows), self.versions.end(version) - self.recorded)
            self.recorded += count
            self.log.append(
                rows[:count],
                model=self.model,
                version=version,
                kind="prequential",
                writer=self.writer,
                sequence=2 * self.recorded,
                metadata=self._metadata(progress, version, False),
                new_samples=True,
            )
            reach("model.recorded")
            rows = rows[count:]
        if progress.end and self.recorded == progress.rows:
            version = self.versions.of(max(self.recorded - 1, 0))
            named = {"model": self.model, "model_version": str(version)}
            self.log.mark(self.writer, 2 * self.recorded + 1, named | self._metadata(progress, version, True))

    def _metadata(self, progress: ModelProgress, version: int, end: bool) -> dict[str, str]:
        now = replace(progress, rows=self.recorded, weights_version=version, end=end)
        return {**self.metadata, **to_metadata(now)}

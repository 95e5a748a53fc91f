"""What a model says, into the predictions table: each sample's logits once, however often the model starts again."""

from __future__ import annotations

import time
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace

import polars as pl

from recdistill.checkpoint.store import Checkpoint, Checkpoints
from recdistill.stream.progress import ModelProgress, to_metadata
from recdistill.tables.predictions import PredictionLog
from recdistill.testing.killpoints import reach
from recdistill.typing import Array

__all__ = ["Recorder"]

BUSY, IDLE = 0.25, 1.0  # seconds from one commit to the next when there are many rows, and when there are few


@dataclass
class Recorder:
    """Buffers logits and commits them when there are `commit_rows`, four times a second at most, or what there is after
    a second.

    Rows are counted since the hand-over. A writer's sequence number says how many it has recorded, so what a model that
    was set back says again is recognised and left out, wherever its commits were cut. Row r is of version
    `first_version + r // version_rows`.
    """

    log: PredictionLog
    model: str
    writer: str
    metadata: dict[str, str]
    first_version: int
    version_rows: int
    commit_rows: int
    rows: int = 0  # said since the hand-over, by this state of the model
    recorded: int = 0  # in the table, by any
    _waiting: list[pl.DataFrame] = field(default_factory=list)
    _last: float = 0.0
    _writing: deque[Future[None]] = field(default_factory=deque)
    _thread: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1))

    def start(self, rows: int) -> None:
        """Go on after `rows` rows; what is in the table beyond will be said again."""
        self.rows, self._waiting, self._last = rows, [], time.monotonic()
        self.recorded = max(self.log.last_sequence(self.writer), 0) // 2

    def say(self, sample_id: Array, times: Array, logits: Array, channels: dict[str, Array]) -> None:
        """Take the logits [n, K] of samples at `times` us, and what is said besides, in the order in which
        the model meets them.
        """
        skip = min(max(self.recorded - self.rows, 0), len(sample_id))
        self.rows += len(sample_id)
        if skip < len(sample_id):
            self._waiting.append(
                self.log.rows_of(
                    sample_id[skip:],
                    times[skip:],
                    logits[skip:],
                    {name: said[skip:] for name, said in channels.items()},
                )
            )

    @property
    def due(self) -> bool:
        """Return whether it is time to commit."""
        waiting, since = sum(map(len, self._waiting)), time.monotonic() - self._last
        return (waiting >= self.commit_rows and since > BUSY) or (waiting > 0 and since > IDLE)

    def version_of(self, row: int) -> int:
        """Return the model's version that says row `row`."""
        return self.first_version + row // self.version_rows

    def flush(self, about: ModelProgress) -> None:
        """Commit what waits, a commit per version, with how the model fares; where that says `end`, a last, empty one.

        A thread does it while the model goes on; what went wrong there is raised by the next call, or by `settle`.
        """
        self.settle(1)
        rows = pl.concat(self._waiting) if self._waiting else pl.DataFrame()
        self._waiting, self._last = [], time.monotonic()
        self._writing.append(self._thread.submit(self._commit, rows, replace(about, rows=self.rows)))

    def publish(self, checkpoints: Checkpoints, checkpoint: Checkpoint) -> None:
        """Let the thread publish a checkpoint of this many rows, after what was flushed before: it refers
        to no row that could be lost.
        """
        self._writing.append(self._thread.submit(checkpoints.publish, self.rows, checkpoint))

    def settle(self, left: int = 0) -> None:
        """Wait until what was flushed and published is on disk, all but the last `left` pieces of work."""
        while len(self._writing) > left:
            self._writing.popleft().result()

    def _commit(self, rows: pl.DataFrame, about: ModelProgress) -> None:
        while len(rows):
            version = self.version_of(self.recorded)
            count = min(len(rows), (version - self.first_version + 1) * self.version_rows - self.recorded)
            self.recorded += count
            self.log.append(
                rows[:count],
                model=self.model,
                version=version,
                kind="prequential",
                writer=self.writer,
                sequence=2 * self.recorded,
                metadata=self._told(about, version, False),
                new_samples=True,
            )
            reach("model.recorded")
            rows = rows[count:]
        if about.end and self.recorded == about.rows:
            version = self.version_of(max(self.recorded - 1, 0))
            told = {"model": self.model, "model_version": str(version), **self._told(about, version, True)}
            self.log.mark(self.writer, 2 * self.recorded + 1, told)

    def _told(self, about: ModelProgress, version: int, end: bool) -> dict[str, str]:
        return {**self.metadata, **to_metadata(replace(about, rows=self.recorded, weights_version=version, end=end))}

"""One teacher before the gate: its rows cut into windows, the windows judged, the verdicts that come of it.

    rows as recorded -> windows of health.rows within a version -> judged -> approved (so many rows of the version)
                                     |                                   or quarantined
                                     +-> held until their labels are settled (labels.window_s) -> judged again

Windows are cut by the number of rows, never by commits or by time, and everything they are judged by is read from the
tables as of the version that the teacher had read. So a gate that starts again anywhere reaches the same verdicts;
those that are in the table already it recognises by version and row.
"""

from __future__ import annotations

from collections import deque
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import polars as pl

from recdistill.config.experiment import Experiment
from recdistill.stream.gate.health import HealthWindow, measure
from recdistill.stream.gate.labelled_rows import LabelledRows, Place
from recdistill.stream.gate.reference import Kind, ReferenceWindows, from_statistics, to_statistics
from recdistill.tables.verdicts import VerdictLog
from recdistill.typing import Array

__all__ = ["RecordedLogits", "Start", "TeacherWindows"]

MAX_HELD = 2_000_000  # rows that wait for their labels; the oldest are then judged by their logits alone


@dataclass(frozen=True)
class Start:
    """Where a gate takes a teacher up again: after `commit` of the predictions and `skip` rows of the teacher's next.

    version, rows: the version those rows are of, and its rows up to there. furthest: see `LabelledRows`. place: where
    to read from.
    """

    commit: int
    place: Place
    skip: int = 0
    version: int = -(2**31)
    rows: int = 0
    furthest: int | None = None
    ended: bool = False

    def to_json(self) -> dict[str, Any]:
        """Return JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, tree: dict[str, Any]) -> Start:
        """Return what `to_json` gave."""
        return cls(**{**tree, "place": Place(**tree["place"])})


@dataclass(frozen=True)
class RecordedLogits:
    """What a teacher recorded in one commit: ids int64 [n], corrected logits float64 [n], times int64 [n] in us.

    commit: its version. version: the teacher's. events: version of the events that it had read. end: it has finished.
    """

    commit: int
    version: int
    events: int
    ids: Array
    logits: Array
    times: Array
    end: bool = False


@dataclass(frozen=True)
class _Piece:
    """Rows of one commit, `skip` of which are in a window already; place: of the samples before the commit."""

    recorded: RecordedLogits
    place: Place
    labels: Array
    positions: Array
    skip: int

    @property
    def left(self) -> int:
        return len(self.recorded.ids) - self.skip


@dataclass(frozen=True)
class _Held:
    """A judged window that waits for its labels. start: where it begins."""

    version: int
    rows: int
    recorded: RecordedLogits
    labels: Array
    start: Start


class TeacherWindows:
    """One teacher's rows; `found` lists the verdicts in order, for the gate to record, each a row of the
    verdicts table.
    """

    def __init__(self, name: str, experiment: Experiment, samples: LabelledRows, start: Start) -> None:
        config = experiment.stream
        self.name, self.config, self.samples = name, config, samples
        self.as_recorded, self.as_settled = ReferenceWindows(config.health), ReferenceWindows(config.health)
        self.bad: set[int] = set()
        self.unquarantined: set[int] = set()
        self.found: list[pl.DataFrame] = []
        self.version, self.rows, self.skip, self.after = start.version, start.rows, start.skip, start.commit
        self.furthest, self.ended = start.furthest, start.ended
        self.windows = 0  # judged by this process
        self.approved: list[tuple[int, int]] = []  # complete versions and their rows, not reported yet
        self._pieces: deque[_Piece] = deque()
        self._held: deque[_Held] = deque()
        window = experiment.labels.window_s
        self._wait = None if window is None else int(window * 1e6)

    # ---- verdicts, as found or as read from the table

    def fold(self, version: int, verdict: str, rows: int, statistics: str) -> None:
        """Apply a verdict of the table."""
        if verdict in ("quarantined", "revoked"):
            self._reject(version)
            if verdict == "quarantined":
                self.as_recorded.last = max(self.as_recorded.last, (version, rows))
        elif verdict == "unquarantined":
            self.bad.discard(version)
            self.unquarantined.add(version)
        elif verdict == "approved" and "sums" in statistics:
            sums, kind = from_statistics(statistics)
            self._approve(version, rows, sums, kind)

    def _approve(self, version: int, rows: int, sums: Array, kind: Kind) -> None:
        if kind != "settled":
            self.as_recorded.approve(version, rows, sums)
        if kind != "recorded":
            self.as_settled.approve(version, rows, sums)

    def _reject(self, version: int) -> None:
        self.bad.add(version)
        self.unquarantined.discard(version)
        self.as_recorded.reject(version)
        self.as_settled.reject(version)

    def _verdict(self, version: int, rows: int, window: HealthWindow, kind: Kind, why: str | None) -> None:
        """Add a verdict; `why` is None for a healthy window."""
        statistics = to_statistics(window, kind)
        if why is None:
            self._approve(version, rows, window.sums, kind)
            self.found.append(VerdictLog.row(self.name, version, "approved", rows=rows, statistics=statistics))
        else:
            self._reject(version)
            self.as_recorded.last = max(self.as_recorded.last, (version, rows))
            self.found.append(
                VerdictLog.row(self.name, version, "quarantined", rows=rows, reason=why, statistics=statistics)
            )

    # ---- rows

    def batch(self, rows: pl.DataFrame) -> None:
        """Take the batch phase's last rows (version, corrected logit, label) for the first reference."""
        logits, labels = rows["logit"].to_numpy(), rows["label"].fill_null(np.nan).to_numpy()
        for first in range(len(rows) % self.config.health.rows, len(rows), self.config.health.rows):
            part = slice(first, first + self.config.health.rows)
            self._verdict(
                int(rows["version"][part.stop - 1]), part.stop, measure(logits[part], labels[part]), "batch", None
            )

    def take(self, recorded: RecordedLogits) -> None:
        """Take the next commit of this teacher, judging every window that it completes."""
        if recorded.commit <= self.after:
            return
        self.after = recorded.commit
        if len(recorded.ids):
            if recorded.version != self.version:
                self._finish()
                self.version, self.rows = recorded.version, 0
            place = self.samples.place()
            self.samples.read(recorded.events)
            labels, positions = self.samples.look_up(recorded.ids)
            self._pieces.append(_Piece(recorded, place, labels, positions, self.skip))
            self.skip = 0
            while self._left() >= self.config.health.rows:
                self._window(self.config.health.rows)
        else:
            self.samples.read(recorded.events)
        self._settle()
        self.ended = recorded.end
        if recorded.end:
            self._finish()

    def _left(self) -> int:
        return sum(piece.left for piece in self._pieces)

    def _finish(self) -> None:
        """Judge what is left of the version: no more of it will come."""
        if left := self._left():
            self._window(left)
        if self.rows and self.version not in self.bad:
            self.approved.append((self.version, self.rows))

    def start(self, seen: int) -> Start:
        """Return from where a gate that starts again must read, which has read the predictions up to version `seen`."""
        self.after = max(self.after, seen)
        return self._held[0].start if self._held else self._next()

    def _next(self) -> Start:
        """Return the place of the first row that is in no window."""
        state = (self.version, self.rows, self.furthest, self.ended)
        if self._pieces:
            first = self._pieces[0]
            return Start(first.recorded.commit - 1, first.place, first.skip, *state)
        return Start(self.after, self.samples.place(), self.skip, *state)

    def _window(self, count: int) -> None:
        """Cut the next `count` rows and judge them, unless that was done."""
        start, (recorded, labels, positions) = self._next(), self._cut(count)
        self.rows += count
        known, offered = self._coverage(positions)
        if self.version in self.bad:
            return
        if (self.version, self.rows) > self.as_recorded.last:
            early = labels if self._wait is None else np.full(count, np.nan)  # of delayed ones only positives are known
            window = measure(recorded.logits, early, known, offered)
            why = None if self.version in self.unquarantined else self.as_recorded.fault_of(self.version, window)
            self._verdict(self.version, self.rows, window, "recorded", why)
            self.windows += 1
        if self._wait is not None and self.version not in self.bad:
            self._held.append(_Held(self.version, self.rows, recorded, labels, start))

    def _cut(self, count: int) -> tuple[RecordedLogits, Array, Array]:
        """Take `count` rows off the pieces; return them, their labels and their positions."""
        cut, wanted = [], count
        while wanted:
            piece = self._pieces.popleft()
            part = slice(piece.skip, piece.skip + min(piece.left, wanted))
            recorded = piece.recorded
            columns = (recorded.ids, recorded.logits, recorded.times, piece.labels, piece.positions)
            cut.append([column[part] for column in columns])
            wanted -= part.stop - part.start
            if part.stop < len(recorded.ids):
                self._pieces.appendleft(_Piece(recorded, piece.place, piece.labels, piece.positions, part.stop))
        ids, logits, times, labels, positions = (np.concatenate(column) for column in zip(*cut, strict=True))
        return RecordedLogits(recorded.commit, recorded.version, recorded.events, ids, logits, times), labels, positions

    def _coverage(self, positions: Array) -> tuple[int, int]:
        """Return (samples of the stream among the rows, samples that there were since the rows before)."""
        stream = positions[positions >= 0]
        if not len(stream):
            return 0, 0
        before = int(stream.min()) - 1 if self.furthest is None else self.furthest
        self.furthest = max(before, int(stream.max()))
        return (len(stream), self.furthest - before) if self.furthest > before else (0, 0)

    def _settle(self) -> None:
        """Judge the held windows whose labels have all come or will not come any more."""
        if self._wait is None:
            return
        while self._held and self.samples.watermark >= int(self._held[0].recorded.times.max()) + self._wait:
            held = self._held.popleft()
            if held.version in self.bad or (held.version, held.rows) <= self.as_settled.last:
                continue
            window = measure(held.recorded.logits, self.samples.settled(held.recorded.ids, held.labels))
            why = None if held.version in self.unquarantined else self.as_settled.fault_of(held.version, window)
            self._verdict(held.version, held.rows, window, "settled", why)
        while len(self._held) * self.config.health.rows > MAX_HELD:
            del self._held[0]
        self.samples.forget(self.start(self.after).place)

"""What the live page remembers of each process: bounded, however long the stream runs.

RecentSums        the newest rows' figures: a difference of two commits' sums
Curve             figures over event time, thinned evenly
ProcessHistory    one process: how far it is, how fast, since when it is silent
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field

from recdistill.evaluate.metrics import ne_of_sums
from recdistill.runs.names import ModelName
from recdistill.stream.progress import GateProgress, Health, IngestProgress, ModelProgress, Sums

__all__ = ["Curve", "Figures", "ProcessHistory", "RecentSums", "role_of"]

RECENT_ROWS = 20_000  # labelled, that a figure is of
MAX_SUMS = 40  # kept for that
MAX_POINTS = 500  # of a curve
RECENT_SECONDS = 30.0  # of wall time, that rows/s and the label-to-weights lag are of
Point = tuple[float, float | None, float | None]  # event seconds, NE, calibration


@dataclass(frozen=True)
class Figures:
    """Over `rows` labelled rows: normalized entropy, predicted / observed rate, share of rows learned with
    a signal; None: unknown.
    """

    rows: int = 0
    ne: float | None = None
    calibration: float | None = None
    coverage: float | None = None
    waiting: float | None = None  # mean wall seconds from a row's arrival to its learning

    @classmethod
    def between(cls, old: Sums, new: Sums) -> Figures:
        """Return the figures of the rows in `new` that are not in `old`."""
        labels, positives = new.labels - old.labels, new.positives - old.positives
        learned = new.learned - old.learned
        return cls(
            int(labels),
            _ne(labels, positives, new.logloss - old.logloss),
            (new.predicted - old.predicted) / positives if positives > 0 else None,
            (new.signals - old.signals) / learned if learned > 0 else None,
            (new.waiting - old.waiting) / learned if learned > 0 else None,
        )


def _ne(labels: float, positives: float, logloss: float) -> float | None:
    """Return log-loss over the entropy of the base rate; None before both classes were seen."""
    value = float(ne_of_sums(logloss, labels, positives))
    return value if math.isfinite(value) else None


class RecentSums:
    """The sums of the last RECENT_ROWS labelled rows; before there are as many, of all since the hand-over."""

    def __init__(self) -> None:
        self.kept: deque[Sums] = deque([Sums()])
        self.last = Sums()

    def add(self, sums: Sums) -> None:
        """Add a commit's sums; ones that went back (a model that was rolled back) replace what they undo."""
        while self.kept and self.kept[-1].labels > sums.labels:
            self.kept.pop()
        if not self.kept:
            self.kept.append(Sums())
        if sums.labels - self.kept[-1].labels >= RECENT_ROWS / MAX_SUMS:
            self.kept.append(sums)
        while len(self.kept) > 1 and sums.labels - self.kept[1].labels >= RECENT_ROWS:
            self.kept.popleft()
        self.last = sums

    def figures(self) -> Figures:
        """Return the figures of the newest rows."""
        return Figures.between(self.kept[0], self.last)


@dataclass
class Curve:
    """At most MAX_POINTS points in order of event time, evenly apart."""

    points: list[Point] = field(default_factory=list)
    gap: float = 0.0

    def add(self, time: float, figures: Figures) -> None:
        """Add the figures at event `time` (seconds); those of later times are replaced."""
        while self.points and self.points[-1][0] >= time:
            self.points.pop()
        if len(self.points) > 1 and time - self.points[-2][0] < self.gap:
            self.points.pop()
        self.points.append((time, figures.ne, figures.calibration))
        if len(self.points) > MAX_POINTS:
            self._thin()

    def _thin(self) -> None:
        self.gap = 2 * (self.points[-1][0] - self.points[0][0]) / MAX_POINTS
        kept = [self.points[0]]
        for point in self.points[1:-1]:
            if point[0] - kept[-1][0] >= self.gap:
                kept.append(point)
        self.points = [*kept, self.points[-1]]


def role_of(model: str) -> tuple[str, str]:
    """Return (role, student) of a model: `teacher`, or `raw` or `distilled` of a student; else `other`."""
    name = ModelName.find(model)
    if name is not None and name.kind == "student":
        return name.variant, name.name
    return ("teacher", "") if name is not None and name.is_teacher else ("other", "")


class ProcessHistory:
    """One process, by the progress in its commits."""

    def __init__(self, name: str, kind: str) -> None:
        self.name, self.kind = name, kind
        self.rows, self.watermark, self.end, self.health = 0, 0, False, Health()
        self.progress: IngestProgress | ModelProgress | GateProgress | None = None
        self.recent, self.curve = RecentSums(), Curve()
        self._rows: deque[tuple[float, int]] = deque()
        self._lags: deque[tuple[float, float]] = deque(maxlen=256)

    def add(self, progress: IngestProgress | ModelProgress | GateProgress) -> None:
        """Add the progress of a commit."""
        self.progress, self.end, self.health = progress, progress.end, progress.health
        if not isinstance(progress, GateProgress):
            self.watermark, self.rows = max(progress.watermark, self.watermark), progress.rows
            self._count(progress.health.wall, progress.rows)
        if isinstance(progress, ModelProgress):
            self.recent.add(progress.sums)
            self._lags.append((progress.health.wall, progress.lag))
            if progress.watermark:
                self.curve.add(progress.watermark / 1e6, self.recent.figures())

    def _count(self, wall: float, rows: int) -> None:
        if len(self._rows) > 1 and wall - self._rows[-2][0] < RECENT_SECONDS / 60:
            self._rows.pop()  # commits may follow in milliseconds
        self._rows.append((wall, rows))
        while len(self._rows) > 2 and wall - self._rows[1][0] >= RECENT_SECONDS:
            self._rows.popleft()

    def rows_per_second(self, wall: float) -> float | None:
        """Return the pace over the last RECENT_SECONDS; 0 when nothing came meanwhile, None before two commits."""
        if len(self._rows) < 2 or self.end:
            return None
        (began, first), (ended, last) = self._rows[0], self._rows[-1]
        if wall - ended > RECENT_SECONDS or ended <= began:
            return 0.0
        return max(0.0, (last - first) / (ended - began))

    def label_to_weights(self) -> float | None:
        """Return the longest of the last RECENT_SECONDS before the newest commit; None for a process without."""
        return max((lag for wall, lag in self._lags if wall >= self._lags[-1][0] - RECENT_SECONDS), default=None)

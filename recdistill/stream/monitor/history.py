"""What the live page remembers of each process: bounded, however long the stream runs.

Window   the newest rows' figures: a difference of two commits' sums
Curve    figures over event time, thinned evenly
ProcessHistory    one process: how far it is, how fast, since when it is silent
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field

from recdistill.evaluate.metrics import ne_of_sums
from recdistill.stream.progress import GateAbout, Health, IngestAbout, ModelAbout, Sums

__all__ = ["Curve", "Figures", "ProcessHistory", "Window", "role_of"]

ROWS = 20_000  # labelled rows of a window
STEPS = 40  # sums kept per window
POINTS = 500  # of a curve, at most
RECENT = 30.0  # wall seconds that rows/s and the label-to-weights lag speak of
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


class Window:
    """The sums of the last ROWS labelled rows; before there are as many, of all since the hand-over."""

    def __init__(self) -> None:
        self.kept: deque[Sums] = deque([Sums()])
        self.last = Sums()

    def add(self, sums: Sums) -> None:
        """Take up a commit's sums; ones that went back (a model that was rolled back) replace what they undo."""
        while self.kept and self.kept[-1].labels > sums.labels:
            self.kept.pop()
        if not self.kept:
            self.kept.append(Sums())
        if sums.labels - self.kept[-1].labels >= ROWS / STEPS:
            self.kept.append(sums)
        while len(self.kept) > 1 and sums.labels - self.kept[1].labels >= ROWS:
            self.kept.popleft()
        self.last = sums

    def figures(self) -> Figures:
        """Return the figures of the window."""
        return Figures.between(self.kept[0], self.last)


@dataclass
class Curve:
    """At most POINTS points in order of event time, evenly apart."""

    points: list[Point] = field(default_factory=list)
    gap: float = 0.0

    def add(self, time: float, figures: Figures) -> None:
        """Take up the figures at event `time` (seconds); what was said of later times before is replaced."""
        while self.points and self.points[-1][0] >= time:
            self.points.pop()
        if len(self.points) > 1 and time - self.points[-2][0] < self.gap:
            self.points.pop()
        self.points.append((time, figures.ne, figures.calibration))
        if len(self.points) > POINTS:
            self._thin()

    def _thin(self) -> None:
        self.gap = 2 * (self.points[-1][0] - self.points[0][0]) / POINTS
        kept = [self.points[0]]
        for point in self.points[1:-1]:
            if point[0] - kept[-1][0] >= self.gap:
                kept.append(point)
        self.points = [*kept, self.points[-1]]


def role_of(model: str) -> tuple[str, str]:
    """Return (role, student) of a model: `teacher`, or `raw` or `distilled` of a student; else `other`."""
    if model == "teacher" or model.startswith("teacher-"):
        return "teacher", ""
    student, role, seed = ("", "", *model.rsplit(".", 2))[-3:]
    return (role, student) if student and role in ("raw", "distilled") and seed.startswith("s") else ("other", "")


class ProcessHistory:
    """One process, by what its commits say."""

    def __init__(self, name: str, kind: str) -> None:
        self.name, self.kind = name, kind
        self.rows, self.watermark, self.end, self.health = 0, 0, False, Health()
        self.about: IngestAbout | ModelAbout | GateAbout | None = None
        self.window, self.curve = Window(), Curve()
        self._rows: deque[tuple[float, int]] = deque()
        self._lags: deque[tuple[float, float]] = deque(maxlen=256)

    def add(self, about: IngestAbout | ModelAbout | GateAbout) -> None:
        """Take up what a commit says."""
        self.about, self.end, self.health = about, about.end, about.health
        if not isinstance(about, GateAbout):
            self.watermark, self.rows = max(about.watermark, self.watermark), about.rows
            self._count(about.health.wall, about.rows)
        if isinstance(about, ModelAbout):
            self.window.add(about.sums)
            self._lags.append((about.health.wall, about.lag))
            if about.watermark:
                self.curve.add(about.watermark / 1e6, self.window.figures())

    def _count(self, wall: float, rows: int) -> None:
        if len(self._rows) > 1 and wall - self._rows[-2][0] < RECENT / 60:
            self._rows.pop()  # commits may follow in milliseconds
        self._rows.append((wall, rows))
        while len(self._rows) > 2 and wall - self._rows[1][0] >= RECENT:
            self._rows.popleft()

    def rows_per_second(self, wall: float) -> float | None:
        """Return the pace over the last RECENT seconds; 0 when nothing came meanwhile, None before two commits."""
        if len(self._rows) < 2 or self.end:
            return None
        (began, first), (ended, last) = self._rows[0], self._rows[-1]
        if wall - ended > RECENT or ended <= began:
            return 0.0
        return max(0.0, (last - first) / (ended - began))

    def label_to_weights(self) -> float | None:
        """Return the longest of the last RECENT seconds before the newest commit; None for a process without."""
        return max((lag for wall, lag in self._lags if wall >= self._lags[-1][0] - RECENT), default=None)

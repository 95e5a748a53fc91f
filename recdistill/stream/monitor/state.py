"""What a stream is doing, from its tables alone: what the live page and the metrics show.

    events       how far ingest is, what it dropped        predictions   how far each model is, and how it fares
    verdicts     versions, quarantines                     dead          what could not be taken, by reason
    logs         what happened when

A reader keeps the tables' versions and reads new commits only; what it remembers is bounded.
"""

from __future__ import annotations

import json
import time
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

from recdistill.config.experiment import Experiment
from recdistill.errors import UserError
from recdistill.runs.folder import RunFolder
from recdistill.storage.location import Location
from recdistill.stream.event_log import read_journals
from recdistill.stream.monitor.history import Figures, Point, ProcessHistory, role_of
from recdistill.stream.progress import GateProgress, IngestProgress, ModelProgress, read_progress
from recdistill.tables.delta.commits import Commit, commits, newest_after
from recdistill.tables.delta.log import DeltaLog
from recdistill.tables.delta.paths import commit_versions
from recdistill.tables.verdicts import VerdictLog

__all__ = ["Happening", "ModelState", "ProcessState", "State", "StateReader", "VersionState", "read_state"]

MAX_COMMITS = 20_000  # per table and refresh: a page that opens late reads a long history in bounded steps
SILENT = 60.0  # wall seconds without a sign of life before a process that has work counts as stalled
MIN_COVERAGE = 0.5
SHOWN = 200  # versions, and lines of what happened
MAX_PLACES = 4096  # in the predictions table, remembered for the gate
MAX_REASONS = 50  # of dead letters, counted apart
OTHER, GONE = "other reasons", "no longer in the table"


@dataclass(frozen=True)
class ProcessState:
    """status: working, idle, stalled or ended. lag_rows, lag_seconds (event time): behind ingest; silent:
    wall seconds.
    """

    name: str
    kind: str
    status: str
    rows: int
    rows_per_second: float | None
    lag_rows: int | None
    lag_seconds: float | None
    silent: float
    pending: int
    memory: int
    handles: int


@dataclass(frozen=True)
class ModelState:
    """How a model fares over its newest rows, and since the hand-over: rows learned without a signal by cause."""

    name: str
    role: str
    student: str
    version: int
    recent: Figures
    total: Figures
    missing: dict[str, int]
    label_to_weights: float | None  # seconds
    curve: list[Point]


@dataclass(frozen=True)
class VersionState:
    """A teacher's version: verdict approved, waiting, quarantined, revoked; rows: that students may learn
    from; time: of the verdict, epoch seconds.
    """

    model: str
    version: int
    verdict: str
    rows: int
    reason: str
    time: float


@dataclass(frozen=True)
class Happening:
    """A line of a process's journal: time as it stands there (ISO, UTC), what happened, and its details."""

    time: str
    process: str
    event: str
    details: str


@dataclass(frozen=True)
class State:
    """The whole stream at `wall` (epoch seconds); level: none, good, look, bad or ended, and why."""

    name: str
    wall: float
    watermark: float
    level: str
    why: list[str]
    unread: int  # commits that this reader has yet to read
    processes: list[ProcessState]
    models: list[ModelState]
    versions: list[VersionState]
    bad: list[VersionState]
    active_teacher_from: list[tuple[float, str]]
    dropped: dict[str, int]
    dead: dict[str, int]
    happened: list[Happening]

    def to_json(self) -> str:
        """Return the state as strict JSON."""
        return json.dumps(asdict(self), allow_nan=False)


class StateReader:
    """Reads a run's tables again and again; each commit once."""

    def __init__(self, folder: RunFolder, experiment: Experiment) -> None:
        self.folder, self.experiment = folder, experiment
        self._at: dict[Location, int] = {}
        self._left: dict[Location, int] = {}
        self._ingest: dict[str, ProcessHistory] = {}
        self._models: dict[str, ProcessHistory] = {}
        self._gates: dict[str, ProcessHistory] = {}
        self._teacher_rows: deque[tuple[int, int]] = deque([(-1, 0)])  # predictions version -> rows of teachers so far
        self._versions: dict[tuple[str, int], VersionState] = {}
        self._bad: dict[tuple[str, int], VersionState] = {}
        self._folded = -1  # version at which the verdicts were read whole
        self._active_teacher_from: deque[tuple[float, str]] = deque(maxlen=SHOWN)
        self._dead: Counter[str] = Counter()

    def read(self, wall: float | None = None) -> State:
        """Read what was committed since and return the state at `wall` (default: now); UserError for a
        damaged table.
        """
        for commit in self._new(self.folder.tables / "events"):
            _take(
                self._ingest,
                "ingest",
                next(iter(commit.writers), "ingest"),
                read_progress(IngestProgress, commit.metadata),
            )
        for commit in self._new(self.folder.predictions):
            self._predicted(commit)
        self._read_verdicts()
        self._read_dead_letters()
        return self._state(time.time() if wall is None else wall)

    def _new(self, path: Location) -> Iterator[Commit]:
        """Yield the commits since the last call, MAX_COMMITS at most."""
        after = self._at.get(path)
        after = _before_first(path) if after is None else after
        if after is None:
            return
        newest = newest_after(path, after)
        if newest == after and (first := _before_first(path)) is not None and first > after:  # the log was cut past us
            after, newest = first, newest_after(path, first)
        last = min(newest, after + MAX_COMMITS)
        self._left[path] = newest - last
        for commit in commits(path, after, last):
            yield commit
            self._at[path] = commit.version

    def _predicted(self, commit: Commit) -> None:
        progress = read_progress(ModelProgress, commit.metadata)
        model = commit.metadata.get("model") or next(iter(commit.writers), "").rsplit("@", 1)[0]
        if progress is None or not model:
            return
        version = int(commit.metadata.get("model_version", progress.weights_version))
        _take(self._models, "model", model, replace(progress, weights_version=version))
        if role_of(model)[0] != "teacher":
            return
        self._teacher_rows.append((commit.version, sum(history.rows for history in self._teachers())))
        if len(self._teacher_rows) > MAX_PLACES:  # the gate is far behind: coarser will do
            self._teacher_rows = deque([*list(self._teacher_rows)[:-1:2], self._teacher_rows[-1]])
        self._version(VersionState(model, version, "waiting", 0, "", progress.health.wall), new=True)

    def _teachers(self) -> list[ProcessHistory]:
        return [history for history in self._models.values() if role_of(history.name)[0] == "teacher"]

    def _read_verdicts(self) -> None:
        path = self.folder.verdicts
        log = VerdictLog.open(path) if _before_first(path) is not None else None
        if log and path not in self._at:  # as it stands: files of old commits are long merged into others
            self._folded = log.version
            for row in (row for rows in log.batches(self._folded) for row in rows.iter_rows(named=True)):
                self._verdict(row)
        for commit in self._new(path):
            _take(self._gates, "gate", next(iter(commit.writers), "gate"), read_progress(GateProgress, commit.metadata))
            for row in (
                log.read(commit).iter_rows(named=True) if log and commit.parts and commit.version > self._folded else ()
            ):
                self._verdict(row)

    def _verdict(self, row: dict[str, Any]) -> None:
        key, at = (row["model"], row["version"]), row["time"].timestamp()
        if row["verdict"] == "active":
            self._active_teacher_from.append((row["from_time"].timestamp() if row["from_time"] else at, row["model"]))
        elif row["verdict"] == "unquarantined":
            self._bad.pop(key, None)
            known = self._versions.get(key)
            rows = known.rows if known else 0
            self._version(VersionState(*key, "approved" if rows else "waiting", rows, row["reason"], at))
        elif row["verdict"] == "approved":
            self._version(VersionState(*key, "approved", row["rows"], row["reason"], at))
        else:
            self._bad[key] = VersionState(*key, row["verdict"], 0, row["reason"], at)

    def _version(self, state: VersionState, new: bool = False) -> None:
        """Keep the newest SHOWN versions; `new`: unless it is known."""
        key = (state.model, state.version)
        if new and key in self._versions:
            return
        self._versions[key] = state
        while len(self._versions) > SHOWN:
            del self._versions[next(iter(self._versions))]

    def _read_dead_letters(self) -> None:
        log = DeltaLog(self.folder.dead) if _before_first(self.folder.dead) is not None else None
        for commit in self._new(self.folder.dead):
            if log is None or not commit.parts:
                continue
            for reason, rows in _reasons(log, commit):
                known = reason in self._dead or len(self._dead) < MAX_REASONS
                self._dead[reason if known else OTHER] += rows or 1

    def _state(self, wall: float) -> State:
        processes = [
            self._process(history, wall)
            for history in (*self._ingest.values(), *self._models.values(), *self._gates.values())
        ]
        models = [_model(history) for history in self._models.values()]
        bad = list(self._bad.values())
        versions = [self._bad.get(key, state) for key, state in self._versions.items()]
        level, why = _level(processes, models, bad)
        dropped = Counter[str]()
        for history in self._ingest.values():
            dropped.update(history.progress.dropped if isinstance(history.progress, IngestProgress) else {})
        return State(
            self.experiment.name,
            wall,
            self._watermark() / 1e6,
            level,
            why,
            sum(self._left.values()),
            processes,
            models,
            versions,
            bad,
            list(self._active_teacher_from),
            dict(dropped),
            dict(self._dead),
            [_happening(line) for line in read_journals(self.folder.logs, SHOWN)],
        )

    def _watermark(self) -> int:
        return max((history.watermark for history in self._ingest.values()), default=0)

    def _process(self, history: ProcessHistory, wall: float) -> ProcessState:
        silent = max(0.0, wall - history.health.wall) if history.health.wall else 0.0
        rows, lag = self._behind(history)
        seconds = (
            (self._watermark() - history.watermark) / 1e6
            if history.kind == "model" and history.watermark and self._ingest
            else None
        )
        work = lag is not None and lag > self._grace()
        status = "ended" if history.end else "working" if silent < SILENT else "stalled" if work else "idle"
        pending = history.progress.pending if isinstance(history.progress, ModelProgress) else 0
        return ProcessState(
            history.name,
            history.kind,
            status,
            rows,
            history.rows_per_second(wall),
            lag,
            None if seconds is None else max(0.0, seconds),
            silent,
            pending,
            history.health.rss,
            history.health.handles,
        )

    def _grace(self) -> int:
        """Return the rows that a process may be behind because others wait for a full window or commit."""
        stream = self.experiment.stream
        return stream.health.rows + stream.commit_rows

    def _behind(self, history: ProcessHistory) -> tuple[int, int | None]:
        """Return (rows done, rows behind) of a process: models behind ingest, the gate behind the teachers."""
        if history.kind == "model" and self._ingest:
            return history.rows, max(0, sum(reader.rows for reader in self._ingest.values()) - history.rows)
        if isinstance(history.progress, GateProgress):
            while len(self._teacher_rows) > 1 and self._teacher_rows[1][0] <= history.progress.predictions:
                self._teacher_rows.popleft()
            done = self._teacher_rows[0][1]
            return done, self._teacher_rows[-1][1] - done
        return history.rows, None


def _reasons(log: DeltaLog, commit: Commit) -> list[tuple[str, int]]:
    """Return (reason, rows) of a commit's dead letters; those that retention took since are counted all the same."""
    try:
        return list(log.read(commit, ["reason", "rows"]).iter_rows())
    except UserError:
        return [(GONE, 1)]


def _take(
    histories: dict[str, ProcessHistory],
    kind: str,
    name: str,
    progress: IngestProgress | ModelProgress | GateProgress | None,
) -> None:
    """Add what a process reports of itself, if it does."""
    if progress is not None:
        histories.setdefault(name, ProcessHistory(name, kind)).add(progress)


def _model(history: ProcessHistory) -> ModelState:
    role, student = role_of(history.name)
    progress = history.progress if isinstance(history.progress, ModelProgress) else ModelProgress()
    return ModelState(
        history.name,
        role,
        student,
        progress.weights_version,
        history.recent.figures(),
        Figures.between(type(progress.sums)(), progress.sums),
        dict(progress.missing),
        history.label_to_weights(),
        list(history.curve.points),
    )


def _happening(line: dict[str, object]) -> Happening:
    time, process, event = (str(line.pop(key, ""))[:100] for key in ("time", "process", "event"))
    return Happening(time, process, event, "  ".join(f"{key}={value}" for key, value in line.items())[:500])


def _level(processes: list[ProcessState], models: list[ModelState], bad: list[VersionState]) -> tuple[str, list[str]]:
    """Return the level and why."""
    newest = {model.name: model.version for model in models}
    if not processes:
        return "none", ["No process of the stream has committed anything yet."]
    why = [
        f"{one.name} has been silent for {one.silent:.0f} s and is {one.lag_rows} rows behind"
        for one in processes
        if one.status == "stalled"
    ]
    level = "bad" if why else "good"
    look = [
        f"{one.name} has taken nothing for {one.silent:.0f} s"
        for one in processes
        if one.kind == "ingest" and one.status == "idle"
    ]
    look += [
        f"{one.model}'s newest version {one.version} is {one.verdict}"
        for one in bad
        if newest.get(one.model) == one.version
    ]
    look += [
        f"{one.name} has a teacher's signal for only {100 * one.recent.coverage:.0f} % of its rows"
        for one in models
        if one.role == "distilled" and one.recent.coverage is not None and one.recent.coverage < MIN_COVERAGE
    ]
    if not why and not look and all(one.status == "ended" for one in processes):
        return "ended", []
    return "look" if look and level == "good" else level, why + look


def _before_first(path: Location) -> int | None:
    """Return the version before the oldest commit in a table's log; None while there is no table."""
    try:
        versions = commit_versions(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise UserError(f"{path}: the table cannot be read: {error.strerror}") from None
    return versions[0] - 1 if versions else None


def read_state(folder: RunFolder, experiment: Experiment) -> State:
    """Return the state of a run's stream now, read whole; a `StateReader` reads on."""
    reader = StateReader(folder, experiment)
    state = reader.read()
    while state.unread:
        state = reader.read()
    return state

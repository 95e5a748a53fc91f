"""From the user's log to the tables: everything is checked and written beside the run, then appears by one rename."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from functools import partial
from pathlib import Path

import polars as pl

from recdistill.config.data import DataConfig
from recdistill.config.experiment import Experiment
from recdistill.data.readers.base import Log
from recdistill.data.readers.factory import open_log
from recdistill.data.readers.first_rows import head_of, with_scales
from recdistill.data.store.frozen_vectors import VECTORS, write_vectors
from recdistill.data.store.memmap import read_json, write_json
from recdistill.errors import RecdistillError, UserError
from recdistill.runs.folder import NOTES_FILE, RunFolder
from recdistill.runs.grown import OLD, Differs, take_over
from recdistill.runs.parallel_ingest import ingest_parts, planned, whole_only
from recdistill.runs.sources import all_gone, check_steady, difference, marks_of
from recdistill.storage.location import Location, local_path, remove
from recdistill.tables.delta.commits import newest_version
from recdistill.tables.events import BehaviorLog, EventLog, OutcomeLog
from recdistill.tables.validation import Origin, check_label_times
from recdistill.workers.parts import Workers

__all__ = [
    "HANDOVER",
    "HandOver",
    "hand_over",
    "handed_over",
    "ingest",
    "notes_of",
    "open_tables",
    "workers_of",
]

HANDOVER, HANDOVER_FILE = "handover", "handover.json"


def open_tables(folder: RunFolder) -> tuple[EventLog, BehaviorLog | None]:
    """Return the run's events and, where given, behaviors."""
    behaviors = folder.tables / "behaviors"
    return EventLog.open(folder.tables / "events"), BehaviorLog.open(behaviors) if behaviors.exists() else None


def ingest(
    folder: RunFolder,
    experiment: Experiment,
    data: Path | None,
    progress: Callable[[int], None],
    note: Callable[[str], None],
    rows: int | None = None,
    follows: bool = True,
) -> int:
    """Write the log into the run's tables, all or nothing; return its rows, 0 when it was there already as it is now.

    Of a log that has grown since, the new rows alone, where it `follows` it: see `take_over`.
    rows: only so many samples, the first, and the behaviors up to the time of the last; a stream brings the rest.
    `progress` is called with the rows written so far, `note` with each line about what was left out. Raises UserError
    for anything wrong with the input, also when the log cannot be scored as the experiment says, and when it is another
    than the run has read.
    """
    if folder.ingested:
        return _follow(folder, experiment, data, (progress, note), follows and rows is None)
    log = open_log(experiment.data, data)
    log.schema.check_group(experiment.evaluate.group)
    part = folder.root / "tables.part" if isinstance(folder.root, Path) else folder.tables
    for left in (part, folder.root / OLD):
        remove(left)
    marks = marks_of(log)
    log = _checked(log, experiment)
    try:
        written = _write(part, log, rows, progress, _workers(experiment, data, rows, note))
        if rows is not None and experiment.labels.window_s is not None:
            OutcomeLog.create(part / "outcomes", log.schema)
        check_steady(marks)
        folder.record_sources(marks)
        write_json(part / NOTES_FILE, log.notes())  # which makes tables of an object store the run's
        if isinstance(part, Path):
            part.rename(local_path(folder.tables))
    finally:
        if isinstance(part, Path) and not folder.ingested:  # in an object store who holds the run's lease clears up
            remove(part)
    for line in log.notes():
        note(line)
    return written


@dataclass(frozen=True)
class _Crew:
    """Several workers, and what they need to know of the experiment."""

    workers: Workers
    data: DataConfig
    folder: Path
    window: bool


def _workers(experiment: Experiment, data: Path | None, rows: int | None, note: Callable[[str], None]) -> _Crew | None:
    """Return who reads the log, None for this process alone; tells why where several were asked for."""
    if experiment.workers.count == 1:
        return None
    folder = (data or Path()).resolve()
    why = "a stream brings the rest" if rows is not None else whole_only(experiment.data, folder)
    if why:
        note(f"workers: one process reads the log: {why}")
        return None
    window = experiment.labels.window_s is not None
    return _Crew(workers_of(experiment), experiment.data, folder, window)


def workers_of(experiment: Experiment) -> Workers:
    """Return who works on the data."""
    return Workers(experiment.workers.count, experiment.workers.engine)


def notes_of(folder: RunFolder) -> list[str]:
    """Return what was printed about the log when it was read, such as what was left out."""
    path = folder.tables / NOTES_FILE
    return list(read_json(path)) if path.exists() else []


def _checked(log: Log, experiment: Experiment) -> Log:
    return replace(log, batches=partial(_timed, log, experiment.labels.window_s is not None))


def _follow(
    folder: RunFolder,
    experiment: Experiment,
    data: Path | None,
    show: tuple[Callable[[int], None], Callable[[str], None]],
    may: bool,
) -> int:
    """Take over what a log has grown by since the run has read it; return how many rows. show: progress, note.

    Raises UserError where it is another than it was and none that has grown, or the run may not follow it.
    """
    marks, (progress, note) = folder.sources(), show
    if not marks:
        return 0
    if all_gone(marks):
        note(f"log: {next(iter(marks))} is gone; the run goes on with the rows that it read from there")
        return 0
    log = open_log(experiment.data, data)
    if not (words := difference(marks, log)):
        return 0
    now = marks_of(log)
    learned = (folder.root / "models").exists()
    try:
        if (folder.tables / HANDOVER_FILE).exists():
            raise Differs("a stream has gone on from there")
        if not may:
            raise Differs("`recdistill run` and `recdistill ingest` alone follow it")
        rows, actions, vectors = take_over(folder, _checked(log, experiment), progress, partial(check_steady, now))
    except Differs as why:
        raise UserError(
            f"{folder.root}: the log changed since it was read ({words}), and {why}; choose another --out for the log "
            f"as it is now, or delete {folder.root}"
        ) from None
    folder.record_sources(now)
    for line in log.notes():
        note(line)
    more = f"{rows:,} rows" + (f" and {actions:,} behaviors" if log.behaviors else "")
    more += f" and vectors of {vectors:,} ids" if log.vectors else ""
    again = "; what was learned before is dropped, and every model learns the whole log anew"
    note(
        f"log: changed since it was read ({words}): {more} more, all before them as they were"
        f"{again if learned and rows + actions + vectors else ''}"
    )
    return rows or actions


@dataclass(frozen=True)
class HandOver:
    """versions: of each table, at which the batch phase ended; what is committed after it is the stream's.
    rows: of the events.
    """

    versions: dict[str, int]
    rows: int

    @property
    def pinned(self) -> dict[str, int | None]:
        """The versions that the batch phase's store is of."""
        return {"events": self.versions["events"], "behaviors": self.versions.get("behaviors")}


def hand_over(folder: RunFolder) -> HandOver:
    """Mark the end of the batch phase in the tables, once, and return where it is. Raises UserError when
    nothing was ingested.
    """
    events = EventLog.open(folder.tables / "events")
    found = {
        name: newest_version(folder.tables / name)
        for name in ("behaviors", "outcomes")
        if (folder.tables / name).exists()
    }
    events.mark(HANDOVER, 0, {name: str(version) for name, version in found.items()})
    handed = handed_over(events)
    if handed is None:
        raise RecdistillError(f"{events.path}: the mark of the hand-over cannot be found again")
    write_json(events.path.parent / HANDOVER_FILE, asdict(handed))
    return handed


def handed_over(events: EventLog) -> HandOver | None:
    """Return where the batch phase ended, None when it has not. A file next to the table holds it too: its
    log may be cut.
    """
    file = events.path.parent / HANDOVER_FILE
    if file.exists():
        return HandOver(**read_json(file))
    commit = events.last_commit(HANDOVER)
    if commit is None:
        return None
    others: dict[str, int] = {
        name: int(commit.metadata[name]) for name in ("behaviors", "outcomes") if name in commit.metadata
    }
    return HandOver({"events": commit.version, **others}, events.rows(commit.version))


def _timed(log: Log, window: bool) -> Iterator[pl.DataFrame]:
    """Yield the log's rows; UserError for a label of which nobody says when it was known."""
    done = 0
    for chunk in log.batches():
        numbers = pl.int_range(done, done + len(chunk), eager=True)
        check_label_times(chunk, log.schema.label_times, Origin(log.source, numbers, log.names), window)
        done += len(chunk)
        yield chunk


def _write(part: Location, log: Log, limit: int | None, progress: Callable[[int], None], crew: _Crew | None) -> int:
    """Write the log, of which only the first `limit` rows where that is given, and the behaviors up to then."""
    schema, chunks = with_scales(log)
    write_vectors(part / VECTORS, log.vectors)
    events = EventLog.create(part / "events", schema)
    if crew is None:
        rows, last = _append_events(events, log, chunks if limit is None else head_of(chunks, limit), progress)
    else:
        rows, last = _in_parts(events, log, crew, progress), None
    if not rows and limit != 0:
        raise UserError(f"{log.source}: the log has no rows")
    if log.behaviors is not None:
        behaviors = BehaviorLog.create(part / "behaviors", log.schema)
        for sequence, chunk in enumerate(log.behaviors() if rows else ()):
            early = chunk if limit is None else chunk.filter(pl.col("time") <= last)
            behaviors.append(early, writer="ingest", sequence=sequence, source=log.source)
            if len(early) < len(chunk):
                break
    return rows


def _append_events(
    events: EventLog, log: Log, chunks: Iterable[pl.DataFrame], progress: Callable[[int], None]
) -> tuple[int, datetime | None]:
    """Commit chunk after chunk; return the rows and the time of the last."""
    rows, last = 0, None
    for sequence, chunk in enumerate(chunks):
        events.append(chunk, writer="ingest", sequence=sequence, source=log.source, new_ids=True)  # readers see to it
        rows, last = rows + len(chunk), chunk["time"][-1]
        progress(rows)
    return rows, last


def _in_parts(events: EventLog, log: Log, crew: _Crew, progress: Callable[[int], None]) -> int:
    """Let several workers write the log; return the rows."""
    job, parts = planned(crew.data, crew.folder, events.path.resolve(), crew.window)
    rows, counts = ingest_parts(job, parts, crew.workers, progress)
    log.counts.clear()  # of the first rows
    log.counts.update(counts)
    return rows

"""From the source to the tables, each row once in effect, whenever the process is killed.

    fetch -> read -> dead letters -> behaviors -> outcomes -> events
                     each commit records up to which offsets its table has everything

The events commit closes a micro-batch. One that was cut short is fetched again from its start: the tables that have
their part of it are known by their offsets, and rows are admitted in order of arrival, so that the same ones are taken
however micro-batches are cut.

Several readers may split the partitions of a source. Each commits its micro-batches in turn with the others, whose
samples it knows by then, so that one that came on two partitions is taken once.
"""

from __future__ import annotations

import time

import numpy as np
import polars as pl

from recdistill.config.experiment import Experiment
from recdistill.errors import UserError
from recdistill.locks import locked
from recdistill.runs.batch_ingest import HANDOVER, handed_over
from recdistill.runs.folder import RunFolder
from recdistill.stream.event_log import Journal
from recdistill.stream.ingest.admission import AdmissionFilter
from recdistill.stream.ingest.dead_letters import DeadLetterBuffer
from recdistill.stream.ingest.micro_batch import MicroBatch
from recdistill.stream.ingest.row_checks import row_faults
from recdistill.stream.progress import Health, IngestProgress, read_progress, to_metadata
from recdistill.stream.sources.base import Source
from recdistill.stream.sources.factory import open_source, source_tables
from recdistill.stream.sources.local_nats import server_url
from recdistill.stream.sources.wire import Kind, Reader
from recdistill.tables.dead_letters import DeadLetters
from recdistill.tables.delta.commits import commits_back
from recdistill.tables.delta.log import DeltaLog
from recdistill.tables.events import BehaviorLog, EventLog, OutcomeLog
from recdistill.testing.killpoints import reach

__all__ = ["Ingest", "ingests", "readers_of", "run_ingest"]

WRITER = "ingest"
MAX_MESSAGES = 256  # of one fetch
LOOK = 60.0  # seconds after which partitions that were added are looked for
PERIOD = 0.5  # seconds after which a micro-batch is committed with what there is
MAX_REASONS = 100  # different ones that the journal lists


def readers_of(experiment: Experiment) -> list[str]:
    """Return the names of the processes that read the source, by their numbers."""
    count = experiment.stream.source.readers
    return [WRITER] if count == 1 else [f"{WRITER}-{k}" for k in range(count)]


def ingests(events: EventLog, version: int | None = None) -> dict[int, IngestProgress]:
    """Return the newest progress of every reader in the events (up to a version), by its number; those that
    reported none are missing.
    """
    found: dict[int, IngestProgress] = {}
    for commit in commits_back(events.path, events.version if version is None else version):
        progress = read_progress(IngestProgress, commit.metadata)
        if progress is not None:
            found.setdefault(progress.reader, progress)
        if HANDOVER in commit.writers or (progress is not None and len(found) == progress.readers):
            break
    return found


def run_ingest(folder: RunFolder, experiment: Experiment, journal: Journal, reader: int = 0) -> int:
    """Take rows from the source into the tables until it ends; return the rows that this reader took since the
    hand-over.

    Raises UserError when the batch phase has not handed over, another process ingests into this run, the broker stays
    down, or a table cannot be written.
    """
    config, name = experiment.stream.source, readers_of(experiment)[reader]
    busy = f"{folder.root}: another process is {name} of this run; wait for it or stop it"
    with locked(folder.local / f"lock.{name}", busy):
        ingest = Ingest(folder, experiment, journal, reader)
        if ingest.progress.end:
            return ingest.progress.rows
        url, tables = server_url(folder.local, config), source_tables(folder.root, config)
        with open_source(experiment.stream, url, tables, journal, reader) as source:
            return ingest.run(source)


class Ingest:
    """The tables, and how far they are."""

    def __init__(self, folder: RunFolder, experiment: Experiment, journal: Journal, reader: int = 0) -> None:
        self.journal, self.commit_rows = journal, experiment.stream.commit_rows
        self.reader, self.reader_count = reader, experiment.stream.source.readers
        self.writer, self.commit_lock = readers_of(experiment)[reader], folder.local / "lock.events"
        self.events = EventLog.open(folder.tables / "events")
        if handed_over(self.events) is None:
            raise UserError(
                f"{folder.root}: there was no hand-over from batch to stream; run: recdistill stream CONFIG --role "
                "batch"
            )
        self.dead = DeadLetters.create(folder.dead)
        self.others: dict[Kind, BehaviorLog | OutcomeLog] = {}
        if (folder.tables / "behaviors").exists():
            self.others["behaviors"] = BehaviorLog.open(folder.tables / "behaviors")
        if (folder.tables / "outcomes").exists():
            self.others["outcomes"] = OutcomeLog.open(folder.tables / "outcomes")
        self.readers: dict[Kind, Reader] = {
            "events": _reader(self.events),
            **{kind: _reader(log) for kind, log in self.others.items()},
        }
        self.progress = self._reported(self.events)
        self.done = {kind: self._reported(log).offsets for kind, log in self.others.items()}
        self.dead_done = self._reported(self.dead).offsets
        self.seen: dict[str, int] = {kind: log.version for kind, log in self.others.items()}
        self.next = {
            log.path: log.last_sequence(self.writer) + 1 for log in (self.events, self.dead, *self.others.values())
        }
        self.others_read = self.events.version  # samples of other readers are remembered up to there
        self.admission = AdmissionFilter(self.events, experiment.stream.late_s, self.progress.watermark)
        self.reasons: set[str] = set()

    def run(self, source: Source) -> int:
        """Take rows until the source ends; return those taken since the hand-over."""
        self.journal.write(
            "resumed" if self.progress.offsets else "started", offsets=self.progress.offsets, rows=self.progress.rows
        )
        parts, ended, looked = set(source.partitions()), set[str](), time.monotonic()
        offsets, batch = dict(self.progress.offsets), MicroBatch()
        while not self.progress.end:
            for message in source.fetch(offsets, MAX_MESSAGES, PERIOD):
                offsets[message.partition] = message.position + 1
                ended = (
                    ended | {message.partition} if batch.take(message, self.readers) else ended - {message.partition}
                )
            if time.monotonic() - looked >= LOOK:
                parts, looked = self._with_added(parts, source), time.monotonic()
            over = batch.rows >= self.commit_rows or time.monotonic() - batch.begun >= PERIOD
            if parts <= ended or (batch.messages and over):
                with locked(self.commit_lock, None):
                    self._commit(batch, parts <= ended)
            if parts <= ended or over:
                batch = MicroBatch()
        self.journal.write("ended", rows=self.progress.rows, dropped=self.progress.dropped)
        return self.progress.rows

    def _with_added(self, parts: set[str], source: Source) -> set[str]:
        """Return the partitions, those that were added with them."""
        added = set(source.partitions()) - parts
        if added:
            self.journal.write("partitions added", partitions=sorted(added))
        return parts | added

    def _commit(self, batch: MicroBatch, end: bool) -> None:
        """Write a micro-batch: its rows, what was wrong with the others, and how far the source is read."""
        if self._reported(self.events) != self.progress:  # where file systems share no locks
            raise UserError(f"{self.events.path}: another process ingests into this run; stop one of them")
        self._read_other_readers()
        reach("ingest.fetched")
        dead, offsets = DeadLetterBuffer(self.dead_done), batch.offsets(self.progress.offsets)
        for message, error in batch.unread:
            dead.whole(message, error.reason, error.rows)
        others = {kind: self._others(batch, kind, dead) for kind in self.others}
        events = self._events(batch, dead)
        progress = IngestProgress(
            offsets, health=Health.now(time.time()), reader=self.reader, readers=self.reader_count
        )
        self._write_dead_letters(dead, progress)
        for kind, log in self.others.items():
            if len(others[kind]):
                self.seen[kind] = log.append(
                    others[kind],
                    writer=self.writer,
                    sequence=self._sequence(log),
                    source=kind,
                    metadata=to_metadata(progress),
                )
            reach(f"ingest.{kind}")
        counted = {
            cause: self.progress.dropped.get(cause, 0) + batch.dropped.get(cause, 0)
            for cause in {**self.progress.dropped, **batch.dropped}
        }
        self.progress = IngestProgress(
            offsets,
            dict(self.seen),
            max(self.admission.watermark, 0),
            self.progress.rows + len(events),
            counted,
            batch.published or self.progress.published,
            end,
            Health.now(time.time()),
            reader=self.reader,
            readers=self.reader_count,
        )
        sequence = self._sequence(self.events)
        if len(events):
            self.events.append(
                events,
                writer=self.writer,
                sequence=sequence,
                source="events",
                new_ids=True,
                metadata=to_metadata(self.progress),
            )
        else:
            self.events.mark(self.writer, sequence, to_metadata(self.progress))
        reach("ingest.events")

    def _read_other_readers(self) -> None:
        """Remember the samples that other readers took since the last time."""
        if self.reader_count == 1:
            return
        names = ["sample_id", "time", *(f"label_{task}" for task in self.admission.tasks)]
        for commit in self.events.commits(self.others_read):
            self.others_read = commit.version
            if commit.parts and self.writer not in commit.writers:
                self.admission.remember(self.events.read(commit, names))

    def _reported(self, log: DeltaLog) -> IngestProgress:
        """Return what this reader last reported in a table, zero progress where it has not yet."""
        commit = log.last_commit(self.writer)
        progress = read_progress(IngestProgress, commit.metadata) if commit else None
        return progress or IngestProgress(reader=self.reader, readers=self.reader_count)

    def _sequence(self, log: DeltaLog) -> int:
        """Return the next sequence number for a table."""
        self.next[log.path] += 1
        return self.next[log.path] - 1

    def _events(self, batch: MicroBatch, dead: DeadLetterBuffer) -> pl.DataFrame:
        """Return the samples to take."""
        if not batch.tables["events"]:
            return pl.DataFrame()
        rows, origin = batch.of("events")
        taken, reasons, dropped = self.admission.split(rows)
        for cause, count in dropped.items():
            batch.drop(cause, count)
        dead.some(batch.messages, rows, origin, reasons)
        return rows if taken.all() else rows.filter(taken)

    def _others(self, batch: MicroBatch, kind: Kind, dead: DeadLetterBuffer) -> pl.DataFrame:
        """Return the behaviors or outcomes to take; those that a killed process committed are in the table."""
        if not batch.tables[kind]:
            return pl.DataFrame()
        rows, origin = batch.of(kind)
        faults = row_faults(rows, kind, self.events.schema)
        batch.drop("invalid", len(faults) - faults.null_count())
        dead.some(batch.messages, rows, origin, faults)
        done = self.done[kind]
        new = np.array([message.position >= done.get(message.partition, 0) for message in batch.messages])
        return rows.filter(faults.is_null() & pl.Series(new[origin]))

    def _write_dead_letters(self, dead: DeadLetterBuffer, progress: IngestProgress) -> None:
        rows = dead.frame()
        if len(rows):
            self.dead.append(
                rows, writer=self.writer, sequence=self._sequence(self.dead), metadata=to_metadata(progress)
            )
        reach("ingest.dead")
        for reason, kind, count in (
            rows.group_by("reason", "kind", maintain_order=True)
            .agg(pl.col("rows").sum())
            .select("reason", "kind", "rows")
            .iter_rows()
        ):
            if reason not in self.reasons and len(self.reasons) < MAX_REASONS:
                self.reasons.add(reason)
                self.journal.write("dead letters", kind=kind, reason=reason, rows=count, table=str(self.dead.path))


def _reader(log: DeltaLog) -> Reader:
    return Reader({name: kind for name, kind in log.types.items() if name not in log.partitions})

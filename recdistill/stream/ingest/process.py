"""From the source to the tables, each row once in effect, whenever the process is killed.

    fetch -> read -> dead letters -> behaviors -> outcomes -> events
                     each commit says up to which offsets its table has everything

The events commit closes a round. A round that was cut short is fetched again from its start: the tables that had their
part of it say so, and rows are judged in order of arrival, so that they fare alike however rounds are cut.

Several readers may split the partitions of a source. Each closes its rounds in turn with the others, whose samples it
knows by then, so that one that came on two partitions is taken once.
"""

from __future__ import annotations

import time

import numpy as np
import polars as pl

from recdistill.config.experiment import Experiment
from recdistill.errors import UserError
from recdistill.runs.batch_ingest import HANDOVER, handed_over
from recdistill.runs.folder import RunFolder, locked
from recdistill.stream.event_log import Journal
from recdistill.stream.ingest.admission import AdmissionFilter
from recdistill.stream.ingest.dead_letters import DeadLetterBuffer
from recdistill.stream.ingest.micro_batch import Round
from recdistill.stream.ingest.row_checks import row_faults
from recdistill.stream.progress import Health, IngestAbout, read_about, to_metadata
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
MESSAGES = 256  # of one fetch
PERIOD = 0.5  # seconds after which a round is committed with what there is
REASONS = 100  # different ones that the journal tells


def readers_of(experiment: Experiment) -> list[str]:
    """Return the names of the processes that read the source, by their numbers."""
    count = experiment.stream.source.readers
    return [WRITER] if count == 1 else [f"{WRITER}-{k}" for k in range(count)]


def ingests(events: EventLog, version: int | None = None) -> dict[int, IngestAbout]:
    """Return the newest word of every reader in the events (up to a version), by its number; those that
    said nothing are missing.
    """
    found: dict[int, IngestAbout] = {}
    for commit in commits_back(events.path, events.version if version is None else version):
        about = read_about(IngestAbout, commit.about)
        if about is not None:
            found.setdefault(about.reader, about)
        if HANDOVER in commit.writers or (about is not None and len(found) == about.readers):
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
    with locked(folder.root / f"lock.{name}", busy):
        ingest = Ingest(folder, experiment, journal, reader)
        if ingest.about.end:
            return ingest.about.rows
        url, tables = server_url(folder.root, config), source_tables(folder.root, config)
        with open_source(experiment.stream, url, tables, journal, reader) as source:
            return ingest.run(source)


class Ingest:
    """The tables, and how far they are."""

    def __init__(self, folder: RunFolder, experiment: Experiment, journal: Journal, reader: int = 0) -> None:
        self.journal, self.commit_rows = journal, experiment.stream.commit_rows
        self.reader, self.of = reader, experiment.stream.source.readers
        self.writer, self.turn = readers_of(experiment)[reader], folder.root / "lock.events"
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
        self.about = self._said(self.events)
        self.done = {kind: self._said(log).offsets for kind, log in self.others.items()}
        self.letters_done = self._said(self.dead).offsets
        self.seen: dict[str, int] = {kind: log.version for kind, log in self.others.items()}
        self.next = {
            log.path: log.last_sequence(self.writer) + 1 for log in (self.events, self.dead, *self.others.values())
        }
        self.met = self.events.version  # samples of other readers are remembered up to there
        self.judge = AdmissionFilter(self.events, experiment.stream.late_s, self.about.watermark)
        self.told: set[str] = set()

    def run(self, source: Source) -> int:
        """Take rows until the source ends; return those taken since the hand-over."""
        self.journal.tell(
            "resumed" if self.about.offsets else "started", offsets=self.about.offsets, rows=self.about.rows
        )
        parts, ended = set(source.partitions()), set[str]()
        offsets, now = dict(self.about.offsets), Round()
        while not self.about.end:
            for message in source.fetch(offsets, MESSAGES, PERIOD):
                offsets[message.partition] = message.position + 1
                ended = ended | {message.partition} if now.take(message, self.readers) else ended - {message.partition}
            over = now.rows >= self.commit_rows or time.monotonic() - now.begun >= PERIOD
            if parts <= ended or (now.messages and over):
                with locked(self.turn, None):
                    self._commit(now, parts <= ended)
            if parts <= ended or over:
                now = Round()
        self.journal.tell("ended", rows=self.about.rows, dropped=self.about.dropped)
        return self.about.rows

    def _commit(self, now: Round, end: bool) -> None:
        """Write a round: its rows, what was wrong with the others, and how far the source is read."""
        if self._said(self.events) != self.about:  # where file systems share no locks, this tells
            raise UserError(f"{self.events.path}: another process ingests into this run; stop one of them")
        self._meet_others()
        reach("ingest.fetched")
        letters, offsets = DeadLetterBuffer(self.letters_done), now.offsets(self.about.offsets)
        for message, error in now.unread:
            letters.whole(message, error.reason, error.rows)
        others = {kind: self._others(now, kind, letters) for kind in self.others}
        events = self._events(now, letters)
        about = IngestAbout(offsets, health=Health.now(time.time()), reader=self.reader, readers=self.of)
        self._bury(letters, about)
        for kind, log in self.others.items():
            if len(others[kind]):
                self.seen[kind] = log.append(
                    others[kind],
                    writer=self.writer,
                    sequence=self._sequence(log),
                    source=kind,
                    metadata=to_metadata(about),
                )
            reach(f"ingest.{kind}")
        counted = {
            cause: self.about.dropped.get(cause, 0) + now.dropped.get(cause, 0)
            for cause in {**self.about.dropped, **now.dropped}
        }
        self.about = IngestAbout(
            offsets,
            dict(self.seen),
            max(self.judge.watermark, 0),
            self.about.rows + len(events),
            counted,
            now.published or self.about.published,
            end,
            Health.now(time.time()),
            reader=self.reader,
            readers=self.of,
        )
        sequence = self._sequence(self.events)
        if len(events):
            self.events.append(
                events,
                writer=self.writer,
                sequence=sequence,
                source="events",
                new_ids=True,
                metadata=to_metadata(self.about),
            )
        else:
            self.events.mark(self.writer, sequence, to_metadata(self.about))
        reach("ingest.events")

    def _meet_others(self) -> None:
        """Remember the samples that other readers took since the last time."""
        if self.of == 1:
            return
        names = ["sample_id", "time", *(f"label_{task}" for task in self.judge.tasks)]
        for commit in self.events.commits(self.met):
            self.met = commit.version
            if commit.parts and self.writer not in commit.writers:
                self.judge.meet(self.events.read(commit, names))

    def _said(self, log: DeltaLog) -> IngestAbout:
        """Return what this reader last said in a table, nothing when it said nothing yet."""
        commit = log.last_commit(self.writer)
        about = read_about(IngestAbout, commit.about) if commit else None
        return about or IngestAbout(reader=self.reader, readers=self.of)

    def _sequence(self, log: DeltaLog) -> int:
        """Return the next sequence number for a table."""
        self.next[log.path] += 1
        return self.next[log.path] - 1

    def _events(self, now: Round, letters: DeadLetterBuffer) -> pl.DataFrame:
        """Return the samples to take."""
        if not now.tables["events"]:
            return pl.DataFrame()
        rows, of = now.of("events")
        taken, reasons, dropped = self.judge.split(rows)
        for cause, count in dropped.items():
            now.drop(cause, count)
        letters.some(now.messages, rows, of, reasons)
        return rows if taken.all() else rows.filter(taken)

    def _others(self, now: Round, kind: Kind, letters: DeadLetterBuffer) -> pl.DataFrame:
        """Return the behaviors or outcomes to take; those that a killed process committed are in the table."""
        if not now.tables[kind]:
            return pl.DataFrame()
        rows, of = now.of(kind)
        faults = row_faults(rows, kind, self.events.schema.tasks)
        now.drop("invalid", len(faults) - faults.null_count())
        letters.some(now.messages, rows, of, faults)
        done = self.done[kind]
        new = np.array([message.position >= done.get(message.partition, 0) for message in now.messages])
        return rows.filter(faults.is_null() & pl.Series(new[of]))

    def _bury(self, letters: DeadLetterBuffer, about: IngestAbout) -> None:
        rows = letters.frame()
        if len(rows):
            self.dead.append(rows, writer=self.writer, sequence=self._sequence(self.dead), metadata=to_metadata(about))
        reach("ingest.dead")
        for reason, kind, count in (
            rows.group_by("reason", "kind", maintain_order=True)
            .agg(pl.col("rows").sum())
            .select("reason", "kind", "rows")
            .iter_rows()
        ):
            if reason not in self.told and len(self.told) < REASONS:
                self.told.add(reason)
                self.journal.tell("dead letters", kind=kind, reason=reason, rows=count, table=str(self.dead.path))


def _reader(log: DeltaLog) -> Reader:
    return Reader({name: kind for name, kind in log.types.items() if name not in log.partitions})

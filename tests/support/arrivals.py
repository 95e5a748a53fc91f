"""A run that waits for its stream, and what arrives: good messages, and every kind of bad one."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import nats
import polars as pl

from recdistill.config.experiment import Experiment
from recdistill.config.load import load_text
from recdistill.runs.batch_ingest import hand_over
from recdistill.runs.folder import RunFolder
from recdistill.stream.event_log import Journal
from recdistill.stream.progress import IngestProgress, read_progress
from recdistill.stream.sources.wire import Kind, Outgoing, encode
from recdistill.tables.dead_letters import DeadLetters
from recdistill.tables.delta.types import TIME
from recdistill.tables.events import BehaviorLog, EventLog, OutcomeLog
from tests.support.tables import SCHEMA, actions, events

__all__ = [
    "BATCH",
    "END",
    "Arrival",
    "experiment",
    "mixed",
    "outcomes",
    "packed",
    "reported",
    "result",
    "send",
    "waiting_run",
]

BATCH = 10  # samples of the batch phase: ids 0 to 9
Arrival = tuple[Kind, bytes]
END: Arrival = ("events", encode(Outgoing(0, "events", events([]), end=True)))


def experiment(url: str, *assignments: str) -> Experiment:
    """Return an experiment with a stream from `url`; samples are late after two days."""
    text = f"""
name: t
data: {{path: unused.csv}}
stream: {{batch_rows: 10, late_s: 172800, commit_rows: 20,
  patience_s: 120, source: {{kind: nats, url: '{url}', stream: s}}}}
"""
    return load_text(text, list(assignments))


def waiting_run(root: Path) -> RunFolder:
    """Return a run whose batch phase had the samples below BATCH."""
    folder = RunFolder(root)
    EventLog.create(folder.tables / "events", SCHEMA).append(events(range(BATCH)), writer="ingest", sequence=0)
    BehaviorLog.create(folder.tables / "behaviors", SCHEMA)
    OutcomeLog.create(folder.tables / "outcomes", SCHEMA)
    hand_over(folder)
    return folder


def outcomes(ids: Sequence[int], task: str = "click", label: float = 1.0) -> pl.DataFrame:
    """Return one outcome per sample."""
    rows = events(ids).select("sample_id", "time")
    return rows.select("sample_id", task=pl.lit(task), label=pl.lit(label, pl.Float32), time="time")


def packed(kind: Kind, rows: pl.DataFrame) -> Arrival:
    """Return rows as a message."""
    return kind, encode(Outgoing(-1, kind, rows), published=1.7e9)


def mixed() -> list[Arrival]:
    """Return samples 10 to 59 in order, behaviors and outcomes of ids 10 to 59, and between them all that
    goes wrong.
    """
    made: list[Arrival] = []
    soon = datetime.now(UTC) + timedelta(hours=3)
    one = events([1000])
    bad = pl.concat(
        [
            one.with_columns(time=pl.lit(soon).cast(TIME)),
            one.with_columns(sample_id=pl.lit(None, pl.Int64)),
            events([29]),
            one.with_columns(label_click=pl.lit(7, pl.Float32)),
        ]
    )
    wrong: list[Arrival] = [
        ("events", b"poison"),
        packed("events", bad),
        packed("events", events([7, 8])),
        packed("events", events([9], label=0.0)),
        packed("events", events(range(20, 25)).drop("feature_device")),
        packed("events", events(range(25, 28)).rename({"feature_device": "feature_devise"})),
        packed("events", one.with_columns(time=events([0])["time"])),
        packed("behaviors", actions([1]).with_columns(item_id=pl.lit(None, pl.Int64))),
        packed("outcomes", outcomes([12, 13], task="buy")),
        packed("outcomes", outcomes([12], label=0.5)),
    ]
    for k in range(10):
        ids = range(10 + 5 * k, 15 + 5 * k)
        made += [packed("behaviors", actions(ids)), packed("events", events([k for k in ids if k != 29]))]
        made += [packed("outcomes", outcomes(ids))]
    made[10:10] = wrong[:2]  # with a good row among the bad
    made[4:4] = wrong[2:4]
    made[20:20] = wrong[4:6]
    made += wrong[6:]
    return [*made, END]


def send(url: str, arrivals: Sequence[Arrival], stream: str = "s") -> None:
    """Publish into a stream, made where it is missing."""

    async def act() -> None:
        client = await nats.connect(url)
        subjects = [f"{stream}.{kind}" for kind in ("events", "behaviors", "outcomes")]
        await client.jetstream().add_stream(name=stream, subjects=subjects)
        for kind, payload in arrivals:
            await client.jetstream().publish(f"{stream}.{kind}", payload)
        await client.close()

    asyncio.run(act())


def result(folder: RunFolder) -> dict[str, list[tuple[object, ...]]]:
    """Return all rows of all tables, in order, but for wall times."""
    dead = pl.concat(
        [pl.DataFrame(schema=DeadLetters.open(folder.dead).types), *DeadLetters.open(folder.dead).batches()]
    )
    found = {"dead": dead.drop("time", "payload")}
    for name, log in (("events", EventLog), ("behaviors", BehaviorLog), ("outcomes", OutcomeLog)):
        found[name] = pl.concat(log.open(folder.tables / name).batches())
    progress = reported(folder)
    return {name: rows.rows() for name, rows in found.items()} | {
        "progress": [
            (
                progress.offsets,
                progress.watermark,
                progress.rows,
                progress.dropped,
                progress.published,
                progress.end,
            )
        ]
    }


def reported(folder: RunFolder) -> IngestProgress:
    """Return the last progress of ingest in the events."""
    commit = EventLog.open(folder.tables / "events").last_commit("ingest")
    progress = read_progress(IngestProgress, commit.metadata) if commit else None
    assert progress is not None
    return progress


def journal(folder: RunFolder) -> Journal:
    """Return the journal of ingest."""
    return Journal(folder.logs, "ingest")

"""Streams made up of real tables: what ingest, models and a gate would have committed."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

import polars as pl

from recdistill.config.experiment import Experiment
from recdistill.config.load import load_text
from recdistill.data.store.memmap import write_json
from recdistill.runs.folder import RunFolder
from recdistill.stream.progress import GateProgress, Health, IngestProgress, ModelProgress, Sums, to_metadata
from recdistill.tables.events import EventLog
from recdistill.tables.predictions import PredictionLog
from recdistill.tables.verdicts import VerdictLog
from tests.support.tables import SCHEMA, events, said

__all__ = ["DAY", "WALL", "MadeStream", "sums_of"]

WALL = 1_710_000_000.0  # the writers' clock at the start
DAY = 86_400_000_000  # us
START = 1_704_067_200_000_000  # 2024-01-01, as the samples' times
RATE = 0.1  # of positives


def sums_of(rows: float, logloss: float, predicted: float = RATE, signals: float = 1.0) -> Sums:
    """Return the sums of `rows` rows with a mean log-loss and mean prediction; `signals`: the share with a signal."""
    return Sums(rows, RATE * rows, predicted * rows, logloss * rows, rows, signals * rows, 0.5 * rows)


@dataclass
class MadeStream:
    """A run's folder whose tables grow call by call; every commit is a second of wall time later."""

    root: Path
    student: str = "light"
    wall: float = WALL
    taken: int = 0
    rows: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.folder = RunFolder(self.root)
        self.root.mkdir(parents=True, exist_ok=True)
        write_json(self.root / "run.json", {"experiment": self.experiment.model_dump(mode="json"), "data": ""})
        self.events = EventLog.create(self.folder.tables / "events", SCHEMA)
        self.predictions = PredictionLog.create(self.folder.predictions, SCHEMA.tasks)
        self.verdicts = VerdictLog.create(self.folder.verdicts)

    @property
    def experiment(self) -> Experiment:
        """The experiment of the run: small windows, so that little counts as behind."""
        return load_text("name: made\ndata: {}\nstream: {commit_rows: 10, health: {rows: 10}}\n")

    def health(self) -> Health:
        """Return a process's health a second later than the last."""
        self.wall += 1.0
        return Health(self.wall, 200 << 20, 12)

    def ingest(self, rows: int = 10, **more: object) -> None:
        """Commit `rows` new samples."""
        ids = range(self.taken, self.taken + rows)
        self.taken += rows
        progress = IngestProgress(watermark=START + self.taken * DAY // 10, rows=self.taken, health=self.health())
        metadata = to_metadata(replace(progress, **more))  # type: ignore[arg-type]
        if rows:
            self.events.append(
                events(ids), writer="ingest", sequence=self.events.version, metadata=metadata, new_ids=True
            )
        else:
            self.events.mark("ingest", self.events.version, metadata)

    def model(self, name: str, sums: Sums, rows: int = 10, version: int = 1, **more: object) -> None:
        """Commit the predictions of `name` for its next `rows` samples, with its running `sums`."""
        first = self.rows.get(name, 0)
        self.rows[name] = first + rows
        progress = ModelProgress(
            rows=first + rows,
            watermark=START + (first + rows) * DAY // 10,
            sums=sums,
            weights_version=version,
            health=self.health(),
        )
        self.predictions.append(
            said(range(first, first + rows)),
            model=name,
            version=version,
            kind="prequential",
            writer=f"{name}@run",
            sequence=first + rows,
            metadata=to_metadata(replace(progress, **more)),
            new_samples=True,  # type: ignore[arg-type]
        )

    def gate(self, *rows: pl.DataFrame, judged: int = 0, end: bool = False) -> None:
        """Commit verdicts, the gate having read all predictions."""
        progress = GateProgress(self.predictions.version, judged, end, self.health())
        given = pl.concat(rows) if rows else VerdictLog.row("", 0, "approved").head(0)
        self.verdicts.append(
            given.with_columns(time=pl.lit(datetime.fromtimestamp(self.wall, UTC))) if rows else given,
            writer="gate",
            sequence=self.verdicts.version,
            metadata=to_metadata(progress),
        )

    def step(self, k: int, rows: int = 10) -> None:
        """Let every process make its k-th step (from 1); the distilled student is better than the raw one."""
        self.ingest(rows)
        at = float(k * rows)
        self.model("teacher", sums_of(at, 0.28), rows, version=1 + k // 3)
        self.model(f"{self.student}.raw.s0", sums_of(at, 0.32, signals=0.0), rows, lag=1.5)
        self.model(
            f"{self.student}.distilled.s0", sums_of(at, 0.30, 0.11, 0.75), rows, lag=2.5, missing={"late": k}, pending=3
        )
        self.gate(VerdictLog.row("teacher", 1 + k // 3, "approved", rows=rows), judged=k)

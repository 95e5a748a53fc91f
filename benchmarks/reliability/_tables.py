"""What poison, disorder and hybrid share: a run's tables written as ingest and a scripted teacher would,
and real models on them.
"""

from __future__ import annotations

import contextlib
import io
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl
import torch

from recdistill.checkpoint.store import Checkpoint
from recdistill.config.experiment import Experiment
from recdistill.data.readers.factory import open_log
from recdistill.evaluate.metrics import auc, normalized_entropy
from recdistill.runs.folder import RunFolder
from recdistill.runs.jobs import jobs_of
from recdistill.runs.names import TEACHER
from recdistill.stream.event_log import Journal
from recdistill.stream.gate.process import run_gate
from recdistill.stream.progress import IngestProgress, ModelProgress, read_progress, to_metadata
from recdistill.stream.workers.build import run_model, stream_checkpoints
from recdistill.tables.delta.commits import Commit
from recdistill.tables.events import EventLog, OutcomeLog
from recdistill.tables.predictions import PredictionLog
from recdistill.tables.verdicts import VerdictLog

__all__ = ["Recorded", "Tables", "interval", "quality", "quiet", "recorded_by", "same"]

COMMIT = 500  # rows
torch.set_num_threads(1)


@dataclass(frozen=True)
class Recorded:
    """A commit of the teacher: its version, its rows, and the metadata that it carries."""

    version: int
    rows: pl.DataFrame
    metadata: dict[str, str]


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep journals off the terminal."""
    with contextlib.redirect_stderr(io.StringIO()):
        yield


class Tables:
    """A run without a batch phase under `root`; `events` in order of arrival, cut into commits of 500 rows."""

    def __init__(self, root: Path, experiment: Experiment) -> None:
        self.folder, self.experiment = RunFolder(root), experiment
        log = open_log(experiment.data, None)
        self.schema = replace(log.schema, features={})
        self.rows = pl.concat(list(log.batches())).select(list(self.schema.columns()))
        self.events = EventLog.create(self.folder.tables / "events", self.schema)
        self.outcomes = (
            OutcomeLog.create(self.folder.tables / "outcomes", self.schema) if experiment.labels.window_s else None
        )
        PredictionLog.create(self.folder.predictions, self.schema.tasks)
        self.verdicts = VerdictLog.create(self.folder.verdicts)
        self.events.mark("handover", 0, {})
        self.models = {job.name: job for jobs in [jobs_of(experiment)] for job in (jobs[0], *jobs[1])}

    def ingest(self, rows: pl.DataFrame, outcomes: pl.DataFrame | None = None) -> None:
        """Commit all samples as ingest would, and each outcome before the first samples that are later than it."""
        newest = rows["time"].dt.epoch("us").cum_max().to_numpy()
        sent, seen = 0, {}
        for k, at in enumerate(range(0, len(rows), COMMIT)):
            part = rows[at : at + COMMIT]
            end = at + COMMIT >= len(rows)
            if self.outcomes is not None and outcomes is not None:
                stop = len(outcomes) if end else int(outcomes["arrived"].search_sorted(part["time"][0]))
                if stop > sent:
                    seen = {
                        "outcomes": self.outcomes.append(
                            outcomes[sent:stop].drop("arrived"), writer="ingest", sequence=k
                        )
                    }
                    sent = stop
            progress = IngestProgress(
                watermark=int(newest[at + len(part) - 1]), rows=at + len(part), seen=seen, end=end
            )
            self.events.append(part, writer="ingest", sequence=k, new_ids=True, metadata=to_metadata(progress))

    def record(self, commits: Iterable[Recorded]) -> None:
        """Commit the predictions of a scripted teacher, the last with the end."""
        log = PredictionLog.open(self.folder.predictions)
        made = list(commits)
        for k, commit in enumerate(made):
            progress = replace(read_progress(ModelProgress, commit.metadata) or ModelProgress(), end=k + 1 == len(made))
            log.append(
                commit.rows,
                model=TEACHER,
                version=commit.version,
                kind="imported",
                writer="scripted",
                sequence=k,
                metadata={**commit.metadata, **to_metadata(progress)},
                new_samples=True,
            )

    def verdict(self, versions: Iterable[int], verdict: str) -> None:
        """Give versions of the teacher a verdict about all their rows, in one commit."""
        rows = [VerdictLog.row(TEACHER, version, verdict, rows=10**9) for version in versions]  # type: ignore[arg-type]
        if rows:
            self.verdicts.append(
                pl.concat(rows), writer="scripted", sequence=self.verdicts.last_sequence("scripted") + 1
            )

    def gate(self) -> int:
        """Run the gate to the end; return the windows it judged."""
        with quiet():
            return run_gate(self.folder, self.experiment, Journal(self.folder.logs, "gate"))

    def run(self, model: str) -> Checkpoint:
        """Run a model to the end of the source; return its newest checkpoint."""
        with quiet():
            run_model(self.folder, self.experiment, self.models[model], Journal(self.folder.logs, model))
        latest = stream_checkpoints(self.folder, model).latest()
        if latest is None:
            raise SystemExit(f"{model} has no checkpoint")
        return latest[1]

    def copy(self, root: Path) -> Tables:
        """Return this run as it stands, at another place."""
        shutil.copytree(self.folder.root, root)
        found = object.__new__(Tables)
        found.__dict__ = self.__dict__ | {
            "folder": RunFolder(root),
            "verdicts": VerdictLog.open(root / "verdicts"),
            "events": EventLog.open(root / "tables" / "events"),
        }
        return found

    def logits(self, model: str) -> np.ndarray:
        """Return a model's logits of the first task, in order of `rows`."""
        recorded = pl.concat(list(PredictionLog.open(self.folder.predictions).of(model)))
        if len(recorded) != recorded["sample_id"].n_unique():
            raise SystemExit(f"{model} predicted something twice")
        name = f"logit_{self.schema.tasks[0]}"
        ids = self.rows.select("sample_id")
        return ids.join(recorded, on="sample_id", how="left", maintain_order="left")[name].to_numpy()

    def labels(self) -> np.ndarray:
        """Return the first task's labels, in order of `rows`."""
        return self.rows[f"label_{self.schema.tasks[0]}"].to_numpy()


def recorded_by(tables: Tables) -> list[Recorded]:
    """Return what the real teacher of a run recorded, commit by commit."""
    log = PredictionLog.open(tables.folder.predictions)
    found: list[Commit] = [c for c in log.commits(-1) if c.parts and c.metadata.get("model") == TEACHER]
    return [
        Recorded(
            int(c.metadata["model_version"]),
            log.read(c).drop("model", "version", "kind"),
            {k: v for k, v in c.metadata.items() if k not in ("model", "model_version")},
        )
        for c in found
    ]


def same(one: Checkpoint, other: Checkpoint) -> bool:
    """Return whether network, table and optimiser are equal bit for bit."""
    names = [name for name in one.tensors if name.split("/")[0] in ("network", "table", "optimiser")]
    return all(torch.equal(one.tensors[name], other.tensors[name]) for name in names)


def quality(label: np.ndarray, logit: np.ndarray) -> tuple[float, float]:
    """Return (NE, AUC) of progressive predictions."""
    return normalized_entropy(label, logit), auc(label, logit)


def interval(differences: list[float]) -> tuple[float, float]:
    """Return (mean, half width of the 95 % interval by Student's t) of paired differences, at least two."""
    n = len(differences)
    t = {2: 12.71, 3: 4.30, 4: 3.18, 5: 2.78, 6: 2.57, 7: 2.45, 8: 2.36, 9: 2.31, 10: 2.26}.get(n, 2.2)
    return float(np.mean(differences)), float(t * np.std(differences, ddof=1) / np.sqrt(n))

"""A run's tables with a made-up teacher in them, for the tests of the gate: the model of
`tests.stream.gate.test_health`, smaller.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from recdistill.config.experiment import Experiment
from recdistill.config.load import load_text
from recdistill.runs.folder import RunFolder
from recdistill.stream.event_log import Journal
from recdistill.stream.gate.process import run_gate
from recdistill.stream.progress import IngestProgress, ModelProgress, to_metadata
from recdistill.tables.events import EventLog, OutcomeLog
from recdistill.tables.predictions import PredictionLog
from recdistill.tables.schema import EventSchema
from recdistill.tables.verdicts import VerdictLog
from recdistill.typing import Array

__all__ = ["CONFIG", "Stream", "main", "verdicts_of"]

START = int(datetime(2024, 1, 1, tzinfo=UTC).timestamp() * 1e6)
SECOND = 1_000_000
CONFIG = """
name: gate
data: {reader: simulator}
stream: {health: {rows: 200, reference_rows: 2000}}
"""


class Stream:
    """The tables of a run: `samples` appends events, `predict` the logits of a teacher for the next of them."""

    def __init__(
        self, root: Path, *settings: str, keep: tuple[float, float] = (1.0, 1.0), window_s: float | None = None
    ) -> None:
        self.folder = RunFolder(root)
        self.experiment: Experiment = load_text(
            CONFIG, [*settings, f"labels.window_s={'null' if window_s is None else window_s}"]
        )
        self.delayed = window_s is not None
        schema = EventSchema(("click",), keep_rates={"click": keep})
        self.events = EventLog.create(self.folder.tables / "events", schema)
        self.outcomes = OutcomeLog.create(self.folder.tables / "outcomes", schema) if self.delayed else None
        self.predictions = PredictionLog.create(self.folder.predictions, ("click",))
        self.verdicts = VerdictLog.create(self.folder.verdicts)
        self.draw = np.random.default_rng(0)
        self.ids = self.truth = self.labels = np.zeros(0)
        self.sequence: dict[str, int] = {}
        self.at: dict[str, int] = {}

    def _next(self, writer: str) -> int:
        self.sequence[writer] = self.sequence.get(writer, -1) + 1
        return self.sequence[writer]

    def samples(self, rows: int, end: bool = False) -> None:
        """Append samples, one a second; their labels too unless they are delayed: then what came of them 50 s later."""
        first = len(self.ids)
        ids = self.draw.permutation(np.arange(first, first + rows)) * 7 + 3
        truth = self.draw.normal(-1.0, 1.5, rows)
        labels = (self.draw.random(rows) < 1 / (1 + np.exp(-truth))) * 1.0
        self.ids, self.truth = np.append(self.ids, ids).astype(np.int64), np.append(self.truth, truth)
        self.labels = np.append(self.labels, labels)
        seen = {} if self.outcomes is None else {"outcomes": self._outcomes(len(self.ids) - 50)}
        progress = IngestProgress(seen=seen, watermark=START + len(self.ids) * SECOND, rows=len(self.ids), end=end)
        rows_ = pl.DataFrame(
            {
                "sample_id": ids,
                "time": self.times(slice(first, None)),
                "user_id": ids % 7,
                "item_id": ids % 5,
                "label_click": pl.Series([None] * rows if self.delayed else labels, dtype=pl.Float32),
            }
        )
        self.events.append(rows_, writer="ingest", sequence=self._next("ingest"), metadata=to_metadata(progress))

    def _outcomes(self, stop: int) -> int:
        """Append the positives among the samples up to `stop` that are not there yet; return the table's version."""
        outcomes, first = self.outcomes, self.at.get("outcomes", 0)
        self.at["outcomes"] = max(first, stop)
        at = np.flatnonzero(self.labels[: max(stop, 0)])
        at = at[at >= first]
        if outcomes is None or not len(at):
            return -1 if outcomes is None else outcomes.version
        rows = pl.DataFrame(
            {
                "sample_id": self.ids[at],
                "task": ["click"] * len(at),
                "label": pl.Series([1.0] * len(at), dtype=pl.Float32),
                "time": self.times(at),
            }
        )
        return outcomes.append(rows, writer="ingest", sequence=self._next("ingest.outcomes"))

    def times(self, at: Any) -> pl.Series:
        """Return the times of the samples at these positions."""
        return pl.Series(START + np.arange(len(self.ids))[at] * SECOND).cast(pl.Datetime("us", "UTC"))

    def hand_over(self) -> None:
        """End the batch phase."""
        self.events.mark("handover", 0, {})

    def predict(
        self,
        rows: int,
        version: int,
        *,
        model: str = "teacher",
        poison: Callable[[Array], Array] = np.positive,
        every: int = 1,
        end: bool = False,
        batch: bool = False,
        offset: float = 0.0,
        keep: tuple[float, float] | None = None,
    ) -> None:
        """Record what `model` predicts at `version` for its next `rows` samples, of each `every`-th alone."""
        first = self.at.get(model, 0)
        at = np.arange(first, first + rows, every)
        self.at[model] = first + rows
        noise = np.random.default_rng(int(version * 1000 + first)).normal(0, 0.3, len(at))
        logits = poison(self.truth[at] * 0.9 + noise) + offset
        progress = to_metadata(ModelProgress(self.events.version, self.at[model], weights_version=version, end=end))
        metadata = {"keep_rates": json.dumps({"click": keep})} if keep else {}
        metadata |= {} if batch else progress
        frame = pl.DataFrame(
            {"sample_id": self.ids[at], "time": self.times(at), "logit_click": pl.Series(logits, dtype=pl.Float32)}
        )
        writer = f"{model}@abc"
        if not rows:
            self.predictions.mark(writer, self._next(writer), metadata)
            return
        self.predictions.append(
            frame,
            model=model,
            version=version,
            kind="prequential",
            writer=writer,
            sequence=self._next(writer),
            metadata=metadata,
        )


def verdicts_of(folder: RunFolder) -> list[tuple[Any, ...]]:
    """Return (model, version, rows, verdict, reason, statistics) of all verdicts, in order."""
    rows = pl.concat(list(VerdictLog.open(folder.verdicts).batches()))
    return rows.select("model", "version", "rows", "verdict", "reason", "statistics").rows()


def main(root: str, *settings: str) -> None:
    """Run the gate of a run's folder in this process."""
    folder = RunFolder(Path(root))
    run_gate(folder, load_text(CONFIG, list(settings)), Journal(folder.logs, "gate"))

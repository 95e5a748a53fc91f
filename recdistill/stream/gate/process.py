"""The gate: judges the logits of every teacher's version before students learn from them. A process of its own.

    predictions (of teachers) + events (labels) + outcomes (late labels) -> verdicts

A restart folds the verdicts table, takes up each teacher at the place in the gate's last commit, and goes on: the
verdicts are those of a gate that was never stopped.
"""

from __future__ import annotations

import json
import time
from typing import Any

import numpy as np
import polars as pl

from recdistill.config.experiment import Experiment
from recdistill.locks import locked
from recdistill.runs.batch_ingest import handed_over
from recdistill.runs.folder import RunFolder
from recdistill.runs.names import is_teacher
from recdistill.signals.columns import channels_of
from recdistill.stream.event_log import Journal
from recdistill.stream.gate.labelled_rows import LabelledRows, Place, batch_rows, log_odds_offset_of_commit
from recdistill.stream.gate.teacher_windows import RecordedLogits, Start, TeacherWindows
from recdistill.stream.progress import GateProgress, Health, ModelProgress, read_progress, to_metadata
from recdistill.tables.delta.commits import Commit
from recdistill.tables.events import EventLog, OutcomeLog
from recdistill.tables.predictions import PredictionLog
from recdistill.tables.verdicts import VerdictLog
from recdistill.testing.killpoints import reach

__all__ = ["STATE", "WRITER", "run_gate"]

WRITER = "gate"
STATE = "gate"  # key of its commits' metadata: where each teacher is taken up again
EVERY = 1.0  # seconds between two commits while there is more to judge
PAUSE = 0.1  # seconds between two looks while there is nothing


def run_gate(folder: RunFolder, experiment: Experiment, journal: Journal) -> int:
    """Judge until every teacher that recorded anything has finished; return the windows judged since the first start.

    Raises UserError when another gate is at work on the run.
    """
    with locked(folder.local / "lock.gate", f"{folder.root}: another gate is at work on this run; stop it first"):
        return _Gate(folder, experiment, journal).run()


class _Gate:
    def __init__(self, folder: RunFolder, experiment: Experiment, journal: Journal) -> None:
        self.experiment, self.config, self.journal = experiment, experiment.stream, journal
        self.events = EventLog.open(folder.tables / "events")
        delayed = experiment.labels.window_s is not None
        self.outcomes = OutcomeLog.open(folder.tables / "outcomes") if delayed else None
        tasks = self.events.schema.tasks
        self.predictions = PredictionLog.create(folder.predictions, tasks, channels_of(experiment, tasks))
        self.verdicts = VerdictLog.create(folder.verdicts)
        self.teachers: dict[str, TeacherWindows] = {}
        self.last_record = time.monotonic()
        self._resume()

    # ---- state

    def _resume(self) -> None:
        last = self.verdicts.last_commit(WRITER)
        state: dict[str, Any] = json.loads(last.metadata[STATE]) if last else {"seen": -1, "teachers": {}}
        progress = (read_progress(GateProgress, last.metadata) if last else None) or GateProgress()
        self.sequence = last.writers[WRITER] + 1 if last else 0
        self.judged, self.end = progress.judged, progress.end
        for name, tree in state["teachers"].items():
            self._add(name, Start.from_json(tree))
        self.verdicts_version = self.verdicts.version
        for rows in self.verdicts.batches(self.verdicts_version):
            self._fold(rows)
        self.seen: int = min([state["seen"], *(teacher.after for teacher in self.teachers.values())])
        self.journal.write("started", judged=self.judged, predictions=self.seen)

    def _add(self, name: str, start: Start) -> TeacherWindows:
        self.teachers[name] = TeacherWindows(
            name, self.experiment, LabelledRows(self.events, self.outcomes, start.place), start
        )
        return self.teachers[name]

    def _fold(self, rows: pl.DataFrame) -> None:
        for row in rows.iter_rows(named=True):
            if row["model"] in self.teachers:
                self.teachers[row["model"]].fold(row["version"], row["verdict"], row["rows"], row["statistics"])

    def _read_operators(self) -> None:
        """Apply the verdicts that people gave meanwhile."""
        for commit in self.verdicts.commits(self.verdicts_version):
            if WRITER not in commit.writers:
                self._fold(self.verdicts.read(commit))
            self.verdicts_version = commit.version

    # ---- the loop

    def run(self) -> int:
        """Judge to the end; see `run_gate`."""
        while True:
            self._read_operators()
            busy = self._poll()
            ended = bool(self.teachers) and all(teacher.ended for teacher in self.teachers.values())
            if any(teacher.found for teacher in self.teachers.values()) or ended != self.end:
                self._record(ended)
            if ended and not busy:
                self.journal.write("ended", judged=self.judged)
                return self.judged
            if not busy:
                time.sleep(PAUSE)

    def _poll(self) -> bool:
        """Take what teachers have recorded since, for EVERY seconds at most; return whether there was anything."""
        before = self.seen
        for commit in self.predictions.commits(self.seen):
            model = _model_of(commit)
            progress = read_progress(ModelProgress, commit.metadata)
            if progress is not None and is_teacher(model):
                self._take(model, commit, progress)
            self.seen = commit.version
            if time.monotonic() - self.last_record > EVERY:
                break
        return self.seen > before

    def _take(self, model: str, commit: Commit, progress: ModelProgress) -> None:
        teacher = self.teachers.get(model) or self._first(model, commit, progress)
        if commit.version <= teacher.after:
            return
        logit = f"logit_{self.events.schema.tasks[0]}"
        rows = self.predictions.read(commit, ["sample_id", "time", logit])
        logits = rows[logit].to_numpy().astype(np.float64) - log_odds_offset_of_commit(
            commit.metadata, self.events.schema
        )
        version = int(commit.metadata.get("model_version", progress.weights_version))
        teacher.take(
            RecordedLogits(
                commit.version,
                version,
                progress.events,
                rows["sample_id"].to_numpy(),
                logits,
                rows["time"].to_physical().to_numpy(),
                progress.end,
            )
        )

    def _first(self, model: str, commit: Commit, progress: ModelProgress) -> TeacherWindows:
        """Begin with a teacher: it is first compared with what it predicted in its batch phase."""
        handed = handed_over(self.events)
        place = (
            Place(-1) if handed is None else Place(handed.versions["events"], 0, handed.versions.get("outcomes", -1))
        )
        teacher = self._add(model, Start(commit.version - 1, place))
        for rows in self.verdicts.batches():  # people's, about versions to come
            self._fold(rows.filter(pl.col("model") == model))
        before = batch_rows(
            self.predictions, commit.version - 1, model, self.events, progress.events, self.config.health.reference_rows
        )
        if len(before):
            lineage = reversed(self.predictions.lineage(model))
            metadata = next((commit for commit in lineage if "stream" not in commit), {})
            offset = log_odds_offset_of_commit(metadata, self.events.schema)
            teacher.batch(before.with_columns(pl.col("logit").cast(pl.Float64) - offset))
        return teacher

    # ---- the record

    def _record(self, end: bool) -> None:
        """Commit the verdicts found since, with where each teacher is to be taken up."""
        found = [row for teacher in self.teachers.values() for row in teacher.found]
        self.judged += sum(teacher.windows for teacher in self.teachers.values())
        reach("gate.judged")
        state = {name: teacher.start(self.seen).to_json() for name, teacher in self.teachers.items()}
        metadata = {
            STATE: json.dumps({"seen": self.seen, "teachers": state}),
            **to_metadata(GateProgress(self.seen, self.judged, end, Health.now(time.time()))),
        }
        if found:
            self.verdicts.append(pl.concat(found), writer=WRITER, sequence=self.sequence, metadata=metadata)
        else:
            self.verdicts.mark(WRITER, self.sequence, metadata)
        reach("gate.recorded")
        self.sequence, self.last_record, self.end = self.sequence + 1, time.monotonic(), end
        for teacher in self.teachers.values():
            self._report(teacher)

    def _report(self, teacher: TeacherWindows) -> None:
        for row in (
            pl.concat([VerdictLog.row("", 0, "approved").clear(), *teacher.found])
            .filter(verdict="quarantined")
            .iter_rows(named=True)
        ):
            self.journal.write("quarantined", model=teacher.name, version=row["version"], reason=row["reason"])
        for version, rows in teacher.approved:
            self.journal.write("version approved", model=teacher.name, version=version, rows=rows)
        teacher.found, teacher.approved, teacher.windows = [], [], 0


def _model_of(commit: Commit) -> str:
    """Return the model that a commit of the predictions is of: an empty one is known by its writer, MODEL@RUN."""
    return commit.metadata.get("model") or next((writer.rpartition("@")[0] for writer in commit.writers), "")

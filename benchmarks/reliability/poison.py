"""A bad teacher version: `python benchmarks/reliability/poison.py [VERSIONS]`. Budget: nothing of it is left, no false
alarm.

A real teacher follows a simulated log; its record is sent again by a scripted teacher, the logits of one version
negated: each of its last 8 (VERSIONS), all that it has in the stream.

    gate off, the version let through   the student learns from it; it is revoked; the student goes back and learns
    again:
                                        its weights must be those of a run in which the version was barred from the
                                        start
    gate on                             the version must be quarantined before the next one is used
    gate on, nothing changed            every window must be approved

`--run RUN` sends the record of the teacher of a finished `recdistill run` (on the Globo log, for example) through the
gate instead.
"""

from __future__ import annotations

import sys
import tempfile
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
import polars as pl
from _tables import COMMIT, Recorded, Tables, quiet, recorded_by, same
from rich.console import Console
from rich.table import Table

from recdistill.config.experiment import Experiment
from recdistill.config.load import load_text
from recdistill.runs.folder import RunFolder
from recdistill.stream.event_log import Journal
from recdistill.stream.gate.process import run_gate
from recdistill.stream.progress import IngestProgress, ModelProgress, to_metadata
from recdistill.stream.registry.revoke import lineage, revoke
from recdistill.tables.events import EventLog
from recdistill.tables.predictions import PredictionLog
from recdistill.tables.schema import EventSchema
from recdistill.tables.verdicts import VerdictLog

__all__ = ["Found", "alarms", "gated", "judged", "let_through", "main"]

ROWS, BATCH, VERSION = 24_000, 8_000, 2_000
CONFIG = f"""
name: poison
data: {{reader: simulator, options: {{rows: {ROWS}, users: 400, items: 300, days: 2.0}}}}
teacher: {{kind: pooled-mlp, width: 8, history: 20, batch: 100}}
students:
  light: {{kind: pooled-mlp, width: 4, history: 5, batch: 100, distill: {{weight: 1.0}}}}
evaluate: {{seeds: [0]}}
stream: {{checkpoint_rows: {VERSION}, commit_rows: {COMMIT}, wait_s: 1.0e+9,
  health: {{rows: 500, reference_rows: 10000}}}}
"""
STUDENT = "light.distilled.s0"


@dataclass
class Found:
    """What must be nothing."""

    students_that_did_not_learn_the_poison: int = 0
    students_whose_weights_differ_after_the_replay: int = 0
    checkpoints_that_still_know_the_version: int = 0
    rows_not_predicted_once: int = 0
    poisoned_versions_not_quarantined: int = 0
    false_alarms: int = 0


def _negated(recorded: list[Recorded], version: int | None) -> list[Recorded]:
    """Return a teacher's commits, the logits of a version negated."""
    return [
        replace(commit, rows=commit.rows.with_columns(-pl.col("^logit_.*$"))) if commit.version == version else commit
        for commit in recorded
    ]


def let_through(clean: Tables, recorded: list[Recorded], place: Path, version: int, found: Found) -> tuple[int, int]:
    """Let a bad version through, revoke it; return (rows learned from it, checkpoints thrown away)."""
    never, hit = clean.copy(place / f"never-{version}"), clean.copy(place / f"hit-{version}")
    for run in (never, hit):
        run.record(_negated(recorded, version))
        run.verdict(range(ROWS // VERSION), "approved")
    never.verdict([version], "revoked")
    want, poisoned = never.run(STUDENT), hit.run(STUDENT)
    learned = int(poisoned.state["learned_from"]["teacher"].get(str(version), 0))
    found.students_that_did_not_learn_the_poison += not learned or same(want, poisoned)
    with quiet():
        hit_by = revoke(hit.folder, "teacher", range(version, version + 1), "labels flipped")
    again = hit.run(STUDENT)
    found.students_whose_weights_differ_after_the_replay += not same(want, again)
    found.checkpoints_that_still_know_the_version += sum(
        bool(checkpoint.revoked) for checkpoint in lineage(hit.folder, STUDENT)
    )
    found.rows_not_predicted_once += int(np.isnan(hit.logits(STUDENT)).sum())
    return learned, len(hit_by[0].checkpoints)


def gated(
    samples: pl.DataFrame, logits: pl.DataFrame, place: Path, experiment: Experiment, batch: int
) -> tuple[int, pl.DataFrame]:
    """Stream samples and a teacher's logits for them through the gate; return (windows judged, all verdicts).

    The first `batch` rows are the batch phase; after it a version has `stream.checkpoint_rows` rows, the first being
    version 1.
    """
    folder, task = RunFolder(place), logits.columns[-1].removeprefix("logit_")
    events, predictions = (
        EventLog.create(folder.tables / "events", EventSchema((task,))),
        PredictionLog.create(folder.predictions, (task,)),
    )
    VerdictLog.create(folder.verdicts)
    events.append(samples[:batch], writer="batch", sequence=0, new_ids=True)
    predictions.append(
        logits[:batch], model="teacher", version=0, kind="prequential", writer="batch", sequence=0, new_samples=True
    )
    events.mark("handover", 0, {})
    rows = experiment.stream.commit_rows
    for k, at in enumerate(range(batch, len(samples), rows)):
        events.append(
            samples[at : at + rows],
            writer="ingest",
            sequence=k,
            new_ids=True,
            metadata=to_metadata(IngestProgress(rows=at)),
        )
        progress = ModelProgress(events.version, at, end=at + rows >= len(samples))
        predictions.append(
            logits[at : at + rows],
            model="teacher",
            version=1 + (at - batch) // experiment.stream.checkpoint_rows,
            kind="prequential",
            writer="stream",
            sequence=k,
            new_samples=True,
            metadata=to_metadata(progress),
        )
    with quiet():
        windows = run_gate(folder, experiment, Journal(folder.logs, "gate"))
    return windows, pl.concat(list(VerdictLog.open(folder.verdicts).batches()))


def judged(tables: Tables, recorded: list[Recorded], place: Path, version: int | None, found: Found) -> tuple[int, int]:
    """Send the record through the gate, one version negated; return (windows judged, rows of that version that were
    approved).

    A third of the log is the batch phase: a teacher that knows nothing yet is worse than the base rate, and the gate
    quarantines it.
    """
    skip = BATCH // VERSION - 1  # the gate's version 1 is the teacher's version BATCH // VERSION
    logits = pl.concat([commit.rows for commit in _negated(recorded, version)]).select(
        "sample_id", "time", "logit_click"
    )
    samples = tables.rows.select("sample_id", "time", "user_id", "item_id", "label_click")
    windows, verdicts = gated(samples, logits, place / f"gate-{version}", tables.experiment, BATCH)
    bad = {number + skip for number in verdicts.filter(pl.col("verdict") == "quarantined")["version"]}
    found.poisoned_versions_not_quarantined += int(version is not None and version not in bad)
    found.false_alarms += len(bad - {version})
    approved = verdicts.filter(
        pl.col("verdict") == "approved", pl.col("version") + skip == (-1 if version is None else version)
    )["rows"]
    return windows, int(approved.max() or 0)  # type: ignore[arg-type]


def alarms(run: Path, place: Path) -> tuple[int, list[tuple[int, int, str]]]:
    """Stream the record of the teacher of a finished run through a gate; return (windows judged, quarantined versions).

    Half of the log, at most 100,000 rows, is its batch phase; a version has 20,000 rows.
    """
    source = RunFolder(run)
    old = EventLog.open(source.tables / "events")
    task = old.schema.tasks[0]
    names = ["sample_id", "time", "user_id", "item_id", f"label_{task}"]
    recorded = pl.concat(
        list(PredictionLog.open(source.predictions).of("teacher", columns=["sample_id", "time", f"logit_{task}"]))
    )
    rows = recorded.join(
        pl.concat(list(old.batches(columns=names))).drop("time"), on="sample_id", how="left", maintain_order="left"
    )
    experiment = load_text("{name: gate, data: {}}")
    windows, verdicts = gated(
        rows.select(names), rows.select(recorded.columns), place, experiment, min(100_000, len(rows) // 2)
    )
    return windows, verdicts.filter(pl.col("verdict") == "quarantined").select("version", "rows", "reason").rows()


def _of_run(run: Path) -> int:
    with tempfile.TemporaryDirectory() as place:
        windows, bad = alarms(run, Path(place))
    print(f"{run}: {windows} windows judged, {len(bad)} versions quarantined {bad or ''}")
    print(f"budget no false alarm over a clean log: {'MISSED' if bad else 'met'}")
    return 1 if bad else 0


def main() -> int:
    """Poison each version in turn; the exit code is 0 when nothing of it is left."""
    if sys.argv[1:2] == ["--run"]:
        return _of_run(Path(sys.argv[2]))
    count, found = min(int(sys.argv[1]) if len(sys.argv) > 1 else 8, (ROWS - BATCH) // VERSION), Found()
    table = Table(
        "version",
        "learned from",
        "checkpoints thrown away",
        "windows judged",
        "rows of it approved",
        title="a version negated",
    )
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        clean = Tables(place / "clean", load_text(CONFIG))
        clean.ingest(clean.rows)
        teacher = clean.copy(place / "teacher")
        teacher.run("teacher")
        recorded = recorded_by(teacher)
        windows, _ = judged(clean, recorded, place, None, found)
        table.add_row("none", "", "", str(windows), "")
        for version in range(ROWS // VERSION - count, ROWS // VERSION):
            learned, thrown = let_through(clean, recorded, place, version, found)
            windows, approved = judged(clean, recorded, place, version, found)
            table.add_row(str(version), str(learned), str(thrown), str(windows), f"{approved} of {VERSION}")
    Console(width=120).print(table)
    for one in fields(found):
        print(f"{one.name.replace('_', ' ')}: {getattr(found, one.name)}")
    met = found == Found()
    print(f"budget equal weights, quarantined within its version, no false alarm: {'met' if met else 'MISSED'}")
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())

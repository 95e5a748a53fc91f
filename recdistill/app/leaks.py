"""What simple rules score on a run's log: looked at with every ingest, kept as `leaks.json`, and shown."""

from __future__ import annotations

from pydantic import ValidationError

from recdistill.app.progress import console, print_line
from recdistill.config.experiment import Experiment
from recdistill.data.store.sample_store import SampleStore
from recdistill.evaluate.leak_probe import probe
from recdistill.evaluate.leaks import Leaks
from recdistill.evaluate.summary import Summary, write_atomic
from recdistill.runs.batch_ingest import open_tables
from recdistill.runs.folder import RunFolder

__all__ = ["FILE", "leaks_of", "print_leaks", "with_leaks"]

FILE = "leaks.json"
SHOWN = 3  # rules in the line


def leaks_of(folder: RunFolder, experiment: Experiment) -> Leaks:
    """Return the probe of the run's log as it is scored, from `leaks.json` where that holds it already."""
    events, behaviors = open_tables(folder)
    path, scored = folder.root / FILE, experiment.evaluate
    try:
        found = Leaks.model_validate_json(path.read_text(encoding="utf-8"))
        if (found.version, found.start, found.group) == (events.version, scored.start, scored.group):
            return found
    except (OSError, ValidationError):
        pass
    with console.status("asking simple rules"):
        found = probe(SampleStore(folder.store), events, behaviors, scored.start, scored.group)
    write_atomic(found.model_dump_json(indent=1) + "\n", path)
    return found


def print_leaks(leaks: Leaks) -> None:
    """Print the best rules in a line, and a line per warning."""
    if not leaks.rules:
        return print_line(f"simple rules: none; they need outcomes, and task '{leaks.task}' is a regression")
    scored = [(one.auc, one) for one in leaks.rules if one.auc is not None]
    best = sorted(scored, key=lambda pair: -pair[0])[:SHOWN]
    lines = [f"{one.text} {auc:.3f}" for auc, one in best]
    print_line(f"simple rules on {leaks.rows:,} scored rows, best AUC: {'; '.join(lines) or 'none, one class only'}")
    for line in leaks.warnings:
        print_line(f"warning: {line}")


def with_leaks(summary: Summary, leaks: Leaks) -> Summary:
    """Return the summary with the probe, held against the best raw student of all samples, and its warnings among
    the summary's.
    """
    raw = [(name, student.raw) for name, student in summary.students.items() if not student.domain]
    best = {}
    for metric in ("gauc", "auc"):
        values = [(value, name) for name, model in raw if (value := model.metric(metric)) is not None]
        if values:
            value, name = max(values)
            best[metric] = (name, value)
    found = leaks.against(best)
    return summary.model_copy(update={"leaks": found, "warnings": [*summary.warnings, *found.warnings]})

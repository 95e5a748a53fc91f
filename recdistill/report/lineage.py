"""Where a run's figures come from: log, table versions, configuration, and whose signals each model learned from."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from recdistill.config.experiment import Experiment
from recdistill.evaluate.summary import Summary
from recdistill.runs.folder import RunFolder, fingerprint
from recdistill.runs.jobs import Job, enlarged_by_name, jobs_by_name, teacher_names
from recdistill.runs.names import TEACHER

__all__ = ["lineage_of"]


def lineage_of(folder: RunFolder, experiment: Experiment, summary: Summary) -> dict[str, str]:
    """Return what a run's figures come from, by name; of each model under `model.NAME`."""
    versions, imported = summary.versions, summary.models.teacher.settings.get("imported")
    found = {
        "run": str(folder.root.resolve()),
        "data": _data(experiment, folder.data()),
        "events_version": str(versions.events),
        "predictions_version": str(versions.predictions),
        "configuration": fingerprint(experiment.model_dump(mode="json", exclude={"tracking"})),
        **{f"package.{name}": number for name, number in {"recdistill": _release(), **versions.packages}.items()},
    }
    larger = enlarged_by_name(experiment)
    for job in jobs_by_name(experiment).values():
        found[f"model.{job.name}"] = _model(experiment, job, larger.get(job.name))
    if imported:
        found[f"model.{TEACHER}"] = f"imported from {imported}"
    return found


def _release() -> str:
    try:
        return version("recdistill")
    except PackageNotFoundError:  # run from a folder of sources
        return "not installed"


def _data(experiment: Experiment, root: Path | None) -> str:
    """Return the log's reader and place, or the simulator's options."""
    data = experiment.data
    if data.path:
        return f"{data.reader}: {(root or Path()) / data.path}"
    options = ", ".join(f"{key} {value}" for key, value in data.options.items())
    return f"{data.reader}: {options or root or 'defaults'}"


def _model(experiment: Experiment, job: Job, larger: Job | None) -> str:
    """Return a model's configuration hash, as its commits carry it, whose signals it learned from, and what it was
    pruned from.
    """
    teachers = teacher_names(experiment, job)
    kind = job.distill.signals if job.distill else ""
    taught = f"{kind} signals of {', '.join(teachers)}" if teachers else "labels alone"
    return f"configuration {job.run}, {taught}" + (f", pruned from {larger.name}" if larger else "")

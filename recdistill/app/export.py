"""A trained model made into what serves it, and what that weighs."""

from __future__ import annotations

from pathlib import Path

from recdistill.app.progress import print_line
from recdistill.checkpoint.store import Checkpoints
from recdistill.config.experiment import Experiment
from recdistill.errors import UserError
from recdistill.runs.folder import RunFolder
from recdistill.runs.jobs import Job
from recdistill.serve.artefact import Manifest
from recdistill.train.predict import Predictor

__all__ = ["export_stage", "exported"]

MIB = 1 << 20


def export_stage(folder: RunFolder, experiment: Experiment, job: Job, to: Path) -> Path:
    """Export a job's newest checkpoint to the folder of versions `to`; print what was written, return its folder."""
    place, manifest = exported(folder, experiment, job, to)
    size = sum(path.stat().st_size for path in place.iterdir())
    graph = (place / "dense.onnx").stat().st_size
    about = f"version {manifest.version}, {size / MIB:,.1f} MiB, of which the graph {graph / MIB:,.2f}"
    print_line(f"export: {job.name} -> {place}: {about}")
    print_line(f"export: the largest difference of a logit from the network's is {manifest.parity:.1e}")
    return place


def exported(folder: RunFolder, experiment: Experiment, job: Job, to: Path) -> tuple[Path, Manifest]:
    """Export a job's newest checkpoint to the folder of versions `to`; return (the version's folder, its manifest).

    Raises UserError where the extra `export` is missing, and as `export` does.
    """
    try:
        from recdistill.export.write import export
    except ImportError as error:
        raise UserError(f"export needs {error.name}; install it: pip install 'recdistill[export]'") from None
    lineage = {
        "run": folder.root.resolve().name,
        "job": job.run,
        "checkpoint": Checkpoints(folder.model(job.name)).newest(),
    }
    return export(Predictor(folder, experiment, job), to, lineage)

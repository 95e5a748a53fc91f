"""A trained model made into what serves it, and what that weighs."""

from __future__ import annotations

from pathlib import Path

from recdistill.app.progress import print_line
from recdistill.checkpoint.store import Checkpoints
from recdistill.config.experiment import Experiment
from recdistill.errors import UserError
from recdistill.runs.folder import RunFolder
from recdistill.runs.jobs import Job
from recdistill.train.predict import Predictor

__all__ = ["export_stage"]

MIB = 1 << 20


def export_stage(folder: RunFolder, experiment: Experiment, job: Job, to: Path, int8_loss: float | None = None) -> Path:
    """Export a job's newest checkpoint to the folder of versions `to`; print what was written, return its folder.

    int8_loss: rows as int8, where NE rises by no more than that.
    """
    try:
        from recdistill.export.int8 import Int8, int8_lines
        from recdistill.export.write import export
    except ImportError as error:
        raise UserError(f"export needs {error.name}; install it: pip install 'recdistill[export]'") from None
    int8 = None if int8_loss is None else Int8(int8_loss, experiment.evaluate.start)
    lineage = {
        "run": folder.root.resolve().name,
        "job": job.run,
        "checkpoint": Checkpoints(folder.model(job.name)).newest(),
    }
    place, manifest = export(Predictor(folder, experiment, job), to, lineage, int8)
    size = sum(path.stat().st_size for path in place.iterdir())
    graph = (place / "dense.onnx").stat().st_size
    about = f"version {manifest.version}, {size / MIB:,.1f} MiB, of which the graph {graph / MIB:,.2f}"
    print_line(f"export: {job.name} -> {place}: {about}")
    print_line(f"export: the largest difference of a logit from the network's is {manifest.parity:.1e}")
    for line in int8_lines(manifest.int8) if manifest.int8 else ():
        print_line(f"export: {line}")
    return place

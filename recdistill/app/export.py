"""A trained model made into what serves it, and what that weighs."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from recdistill.app.export_check import check_installed
from recdistill.app.progress import print_line
from recdistill.app.run import run_store
from recdistill.config.experiment import Experiment
from recdistill.data.store.known import Known, known_of, known_then
from recdistill.errors import UserError
from recdistill.runs.folder import RunFolder
from recdistill.runs.jobs import Job
from recdistill.serve.artefact import Manifest
from recdistill.serve.rows import AS_THEY_ARE, SmallerRows
from recdistill.stream.registry.promote import check_revoked
from recdistill.stream.workers.build import base_of, live_folder
from recdistill.stream.workers.snapshot import check_revision
from recdistill.train.predict import Predictor
from recdistill.train.trained import Trained

__all__ = ["export_stage", "exported"]

MIB = 1 << 20


def export_stage(
    folder: RunFolder,
    experiment: Experiment,
    job: Job,
    to: Path,
    found: Trained,
    serves: bool = True,
    smaller: SmallerRows = AS_THEY_ARE,
) -> Path:
    """Export a job's checkpoint as `exported` does; print what was written, return its folder."""
    place, manifest = exported(folder, experiment, job, to, found, serves, smaller)
    size = sum(path.stat().st_size for path in place.iterdir())
    graph = (place / "dense.onnx").stat().st_size
    about = f"version {manifest.version}, {size / MIB:,.1f} MiB, of which the graph {graph / MIB:,.2f}"
    print_line(f"export: {job.name} after {found.rows:,} rows -> {place}: {about}")
    print_line(f"export: the largest difference of a logit from the network's is {manifest.parity:.1e}")
    if manifest.rows:
        from recdistill.export.smaller_rows import cost_lines

        for line in cost_lines(manifest.rows):
            print_line(f"export: {line}")
    return place


def exported(
    folder: RunFolder,
    experiment: Experiment,
    job: Job,
    to: Path,
    found: Trained,
    serves: bool = True,
    smaller: SmallerRows = AS_THEY_ARE,
) -> tuple[Path, Manifest]:
    """Export a job's checkpoint to the folder of versions `to`; return (the version's folder, its manifest).

    serves: whether it is served from now on; smaller: how the rows are written. Raises UserError, and publishes
    nothing, for a checkpoint that learned from what was revoked since, for a network that cannot be exported, and where
    the extra `export` is missing.
    """
    check_installed()
    from recdistill.export.write import export

    check_revoked(folder, job.name, found)
    if not isinstance(folder.root, Path):
        run_store(folder)  # this machine may not have it
    known = _known(folder, job, found)
    lineage = _lineage(folder, job, found)
    predictor, scored = Predictor(folder, experiment, job, found), experiment.evaluate
    return export(predictor, to, lineage, known, serves, smaller, scored.start, scored.group)


def _known(folder: RunFolder, job: Job, found: Trained) -> Known:
    """Return the ids and the counts of outcomes as the checkpoint's model had them."""
    base = base_of(folder)
    if base is None:
        raise UserError(
            f"{job.name}: cannot be exported: without a batch phase there are no rows to compare the graph on; set "
            "stream.batch_rows"
        )
    if not found.of_stream:
        return known_of(base)
    check_revision(found.checkpoints.folder, found.state)
    stored = found.checkpoints.stored(found.block).items()
    arrays = {name.removeprefix("store/"): value[...].numpy() for name, value in stored if name.startswith("store/")}
    return known_then(base, live_folder(folder, job), arrays, found.state["parts"]["store"])


def _lineage(folder: RunFolder, job: Job, found: Trained) -> dict[str, Any]:
    """Return where a checkpoint comes from; see `Lineage` for what it learned from."""
    return {
        "run": folder.root.resolve().name,
        "job": job.run,
        "checkpoint": f"{found.path.parent.name}/{found.path.name}",
        "rows": found.rows,
        "learned_from": found.state.get("learned_from", {}),
        "versions": found.state.get("versions", {}),
        "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
    }

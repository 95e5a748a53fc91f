"""Which checkpoint of a model is meant: the newest, the first at or after so many rows, or one by its folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recdistill.checkpoint.sharded_tensors import Stored
from recdistill.checkpoint.store import Checkpoints
from recdistill.errors import UserError
from recdistill.runs.folder import RunFolder
from recdistill.runs.jobs import Job
from recdistill.storage.location import Location

__all__ = ["Trained", "trained"]


@dataclass(frozen=True)
class Trained:
    """A checkpoint that is there, whole."""

    checkpoints: Checkpoints
    block: int
    state: dict[str, Any]

    @property
    def path(self) -> Location:
        """Return its folder."""
        return self.checkpoints.path(self.block)

    @property
    def of_stream(self) -> bool:
        """Return whether a stream made it, after the batch phase."""
        return "parts" in self.state

    @property
    def rows(self) -> int:
        """Return how many rows the model had predicted: of the batch phase, or since."""
        return _rows(self.state)

    @property
    def learner(self) -> Mapping[str, Stored]:
        """Return the learner's tensors; they are read when they are asked for."""
        stored = self.checkpoints.stored(self.block)
        return {name: value for name, value in stored.items() if name.split("/")[0] not in self.state.get("parts", ())}


def trained(folder: RunFolder, job: Job, rows: int | None = None, path: Path | None = None) -> Trained:
    """Return a job's checkpoint: the newest, of its stream where there is one; of these the first that has predicted
    `rows` rows or more; or that in the folder `path`, wherever it lies.

    Raises UserError for a model that was never trained, for one that is not there or damaged, and for another model's.
    """
    if path is not None:
        return _at(path, job)
    stream, batch = Checkpoints(folder.model(job.name) / "stream"), Checkpoints(folder.model(job.name))
    checkpoints = stream if stream.blocks() else batch
    known = {block: _rows(checkpoints.whole_state(block)) for block in checkpoints.blocks()}
    if not known:
        raise UserError(f"{job.name}: not trained yet; run: recdistill train {folder.root}")
    block = max(known) if rows is None else next((at for at, count in known.items() if count >= rows), None)
    if block is None:
        raise UserError(f"{job.name}: has no checkpoint of {rows:,} rows or more; there are {_listed(known.values())}")
    if not checkpoints.whole(block):
        raise UserError(f"{checkpoints.path(block)}: damaged; choose another with --rows, of {_listed(known.values())}")
    return _of(checkpoints, block, job)


def _at(path: Path, job: Job) -> Trained:
    path = path.resolve()
    checkpoints = Checkpoints(path.parent)
    if not path.name.isdigit() or checkpoints.path(int(path.name)) != path or not path.is_dir():
        raise UserError(f"{path}: no checkpoint; name a folder as models/{job.name}/00000012")
    if not checkpoints.whole(int(path.name)):
        raise UserError(f"{path}: damaged; choose another checkpoint")
    return _of(checkpoints, int(path.name), job)


def _of(checkpoints: Checkpoints, block: int, job: Job) -> Trained:
    try:
        state = checkpoints.state(block)
    except FileNotFoundError:
        raise UserError(f"{checkpoints.path(block)}: was removed meanwhile; try again") from None
    if state.get("run", job.run) != job.run:  # a fold of a teacher has none
        raise UserError(f"{checkpoints.path(block)}: a checkpoint of another model than {job.name}")
    return Trained(checkpoints, block, state)


def _rows(state: Mapping[str, Any]) -> int:
    """Return the rows of a checkpoint's state, 0 where it is damaged."""
    return int(state.get("rows", state.get("totals", {}).get("rows", 0)))


def _listed(rows: Any) -> str:
    return ", ".join(f"{count:,}" for count in sorted(rows))

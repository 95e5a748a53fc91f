"""An exported model of the tiny experiment, shared by the tests of serving."""

from __future__ import annotations

from pathlib import Path

from recdistill.api.run import Run
from tests.support.runs import finish, tiny

__all__ = ["exported"]


def exported(root: Path, *assignments: str, model: str = "teacher") -> Path:
    """Train a model in `root`/run and return the folder of its artefact."""
    finish(root / "run", tiny(*assignments), model)
    Run(root / "run").model(model).export(root / "artefact")
    return root / "artefact"

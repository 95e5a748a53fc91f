"""An artefact that no test changes."""

from __future__ import annotations

from pathlib import Path

import pytest

from recdistill.api.run import Run
from tests.support.runs import finish, tiny


@pytest.fixture(scope="session")
def artefact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of one version, of a teacher."""
    root = tmp_path_factory.mktemp("served")
    finish(root / "run", tiny(), "teacher")
    Run(root / "run").model("teacher").export(root / "artefact")
    return root / "artefact"

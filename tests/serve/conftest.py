"""An artefact that no test changes."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.artefacts import exported


@pytest.fixture(scope="session")
def artefact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of one version, of a teacher."""
    return exported(tmp_path_factory.mktemp("served"))

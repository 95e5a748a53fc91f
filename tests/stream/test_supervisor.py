"""Processes of a stream, real ones: what fails, what is killed, and what is a helper's own trouble."""

from __future__ import annotations

from pathlib import Path

import pytest

from recdistill.app.run import open_run
from recdistill.app.stream import batch_stage
from recdistill.errors import UserError
from recdistill.runs.folder import RunFolder
from recdistill.stream import supervisor
from recdistill.stream.event_log import Journal, read_journals
from recdistill.stream.supervisor import supervise
from tests.support.stream_runs import experiment_of


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    """A run whose stream is about to begin, without a batch phase; its source is tables."""
    experiment = experiment_of("stream.batch_rows=0", "data.options.rows=600")
    with open_run(experiment, None, tmp_path / "run") as made:
        batch_stage(made, experiment, None)
    return made


def logged(folder: RunFolder, event: str) -> list[dict[str, object]]:
    return [line for line in read_journals(folder.logs, 100) if line["event"] == event]


def test_a_helper_that_fails_is_logged_and_ends_nobody(folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "AGAIN", 0.0)
    watched = supervise(folder.root, ["gate"], ["nobody"], Journal(folder.logs, "stream"))
    while len(logged(folder, "failed")) < 2:
        assert next(watched) == 1  # the gate, which waits for a teacher
    watched.close()
    assert {line["role"] for line in logged(folder, "failed")} == {"nobody"}


def test_a_role_that_fails_ends_the_others(folder: RunFolder) -> None:
    with pytest.raises(UserError, match="nobody failed"):
        list(supervise(folder.root, ["ingest", "nobody"], ["compact"], Journal(folder.logs, "stream")))

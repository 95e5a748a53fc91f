"""Kill points: a process dies where the environment asks for it, at that pass, and nowhere else."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from recdistill.testing.killpoints import KILL_POINTS, VARIABLE, reach
from tests.support.paths import ROOT

PASSES = """
from recdistill.testing.killpoints import reach
for k in range(3):
    print(k, flush=True)
    reach("table.commit")
    reach("gate.judged")
"""


@pytest.mark.parametrize(
    ("point", "printed", "code"),
    [
        ("", "0 1 2", 0),
        ("ingest.dead", "0 1 2", 0),
        ("table.commit", "0", -signal.SIGKILL),
        ("gate.judged:2", "0 1", -signal.SIGKILL),
        ("table.commit:4", "0 1 2", 0),
    ],
)
def test_a_process_dies_at_the_pass_that_is_asked_for(point: str, printed: str, code: int) -> None:
    environment = {**os.environ, VARIABLE: point}
    done = subprocess.run([sys.executable, "-c", PASSES], env=environment, cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout.split()) == (code, printed.split())


def test_a_name_that_there_is_not_is_an_error_where_kills_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "no.such.point")
    reach(KILL_POINTS[0])
    with pytest.raises(KeyError):
        reach("no.such.point")

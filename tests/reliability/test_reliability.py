"""The reliability benchmarks, each with a small number: what they promise holds, or they end with exit code 1."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.support.paths import ROOT
from tests.support.programs import needs

pytestmark = pytest.mark.long
SMALL = [
    ["poison.py", "1"],
    pytest.param(["faults.py", "9"], marks=needs("cc")),
    ["damage.py", "60"],
    ["fuzz.py", "60"],
    pytest.param(["broker.py", "4"], marks=needs("nats-server")),
    ["disorder.py", "2"],
    ["hybrid.py", "2"],
    ["artefacts.py", "24"],
    ["swaps.py", "10"],
]


@pytest.mark.parametrize("words", SMALL, ids=lambda words: words[0])
def test_the_budget_is_met(words: list[str]) -> None:
    command = [sys.executable, str(ROOT / "benchmarks" / "reliability" / words[0]), *words[1:]]
    done = subprocess.run(
        command, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr

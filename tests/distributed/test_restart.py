"""A rank that is lost under torchrun: all ranks start again by themselves, from the last shares."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from recdistill.checkpoint.store import Checkpoints
from recdistill.testing.killpoints import VARIABLE
from tests.support.paths import ROOT
from tests.support.rank_processes import free_port
from tests.support.runs import ingested, tiny

RANK = f"""
import os
if os.environ["RANK"] == "1" and os.environ["TORCHELASTIC_RESTART_COUNT"] == "0":
    os.environ["{VARIABLE}"] = "step.learned:6"
from recdistill.cli.app import main
main()
"""


@pytest.mark.long
def test_torchrun_starts_lost_ranks_again_from_the_last_shares(tmp_path: Path) -> None:
    """It gives them the store in which those before left their addresses."""
    folder = ingested(tmp_path / "run", tiny("checkpoint_rows=100"))
    (tmp_path / "rank.py").write_text(RANK)
    words = ["--master-port", str(free_port()), "--nproc-per-node", "2", "--max-restarts", "1"]
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "torch.distributed.run",
            *words,
            str(tmp_path / "rank.py"),
            "train",
            str(folder.root),
            "--model",
            "teacher",
        ],
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "RECDISTILL_RANK_TIMEOUT": "60"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    assert "-9" in done.stderr or "another rank is gone" in done.stderr
    checkpoints = Checkpoints(folder.model("teacher"))
    assert checkpoints.newest() == checkpoints.blocks()[-1] > 3
    assert checkpoints.state(checkpoints.blocks()[-1])["totals"]["rows"] == 400

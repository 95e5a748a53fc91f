"""Two ranks do what one does; one that dies ends the job with one line, and the job goes on with any number of ranks."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from recdistill.killpoints import VARIABLE
from recdistill.learn.checkpoint import Checkpoints
from recdistill.learn.ranked import asked_for
from recdistill.models.ranks import Ranks
from recdistill.tables import PredictionLog
from tests.learn.runs import finish, ingested, tiny

SCRIPT = Path(sys.executable).with_name("recdistill")
KINDS = {
    "hstu": ("teacher.kind=hstu", "candidates.count=2", "teacher.epochs=0"),
    "target-attention": ("teacher.kind=target-attention", "teacher.replay=1", "teacher.epochs=1"),
    "token-mixer": ("teacher.kind=token-mixer", "teacher.optimiser=rowwise-adagrad", "teacher.sampling.negative=0.5",
                    "teacher.options={mixer_layers: 3, auxiliary: 0.3}"),
}  # fmt: skip


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def started(root: Path, ranks: int, *words: str, timeout: float = 60, kill: tuple[int, str] | None = None) -> list[subprocess.Popen[str]]:
    """Start the ranks of `recdistill train`; kill: (rank, kill point) that ends one of them with SIGKILL."""
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "WORLD_SIZE": str(ranks), "LOCAL_WORLD_SIZE": str(ranks),
              "RECDISTILL_RANK_TIMEOUT": str(timeout)}  # fmt: skip
    found = []
    for rank in range(ranks):
        own = {VARIABLE: kill[1]} if kill and kill[0] == rank else {}
        found.append(subprocess.Popen([SCRIPT, "train", root, "--model", "teacher", *words], text=True, stdout=subprocess.PIPE,
                                      stderr=subprocess.PIPE, env={**os.environ, **shared, **own, "RANK": str(rank)}))  # fmt: skip
    return found


def ended(processes: list[subprocess.Popen[str]]) -> list[tuple[int, str]]:
    outputs = [process.communicate(timeout=120) for process in processes]
    return [(process.returncode, out + err) for process, (out, err) in zip(processes, outputs, strict=True)]


def logits(root: Path) -> np.ndarray:
    rows = PredictionLog.open(root / "predictions").scan(columns=["sample_id", "logit_click", "logit_finish"]).collect().sort("sample_id")
    assert rows["sample_id"].is_unique().all()
    return rows.to_numpy()


def newest(root: Path) -> dict[str, torch.Tensor]:
    latest = Checkpoints(root / "models" / "teacher").latest()
    assert latest is not None
    return latest[1].tensors


@pytest.mark.parametrize(("kind", "ranks", "words"), [
    ("hstu", 2, ()), ("hstu", 3, ()), ("target-attention", 2, ()), ("token-mixer", 2, ()), ("hstu", 2, ("--shard",)),
    ("token-mixer", 2, ("--shard",)),
])  # fmt: skip
def test_ranks_say_and_learn_what_one_process_does(tmp_path: Path, kind: str, ranks: int, words: tuple[str, ...]) -> None:
    """Three ranks do not divide the batch of 50."""
    experiment = tiny(*KINDS[kind])
    folder = ingested(tmp_path / "many", experiment)
    shutil.copytree(folder.root, tmp_path / "one")
    finish(tmp_path / "one", experiment, "teacher")
    for code, said in ended(started(folder.root, ranks, *words)):
        assert code == 0, said
    one, many = logits(tmp_path / "one"), logits(folder.root)
    np.testing.assert_allclose(many, one, rtol=2e-3, atol=2e-4)
    assert np.abs(many[:, 1:]).max() > 0.01
    learned, other = newest(tmp_path / "one"), newest(folder.root)
    assert learned.keys() == other.keys()
    for name, value in learned.items():
        if name.startswith(("network/", "table/")) and value.is_floating_point():
            torch.testing.assert_close(other[name], value, rtol=5e-2, atol=2e-3, msg=name)


def test_a_rank_that_dies_ends_the_job_in_one_line_and_it_goes_on_with_one(tmp_path: Path) -> None:
    experiment = tiny("teacher.kind=hstu", "checkpoint_rows=100")
    folder = ingested(tmp_path / "run", experiment)
    shutil.copytree(folder.root, tmp_path / "whole")
    processes = started(folder.root, 2, timeout=10, kill=(1, "step.learned:12"))
    (code, said), (killed, _) = ended(processes)
    assert killed == -9 and code == 1
    line = said.strip().splitlines()[-1]
    assert "rank 0 of 2: another rank is gone" in line and "Traceback" not in said
    assert Checkpoints(folder.model("teacher")).newest() == 1
    finish(folder.root, experiment, "teacher")  # one process takes it up
    finish(tmp_path / "whole", experiment, "teacher")
    np.testing.assert_allclose(logits(folder.root), logits(tmp_path / "whole"), rtol=2e-3, atol=2e-4)


@pytest.mark.parametrize("words", [(), ("--shard",)])
def test_two_ranks_take_up_what_one_began(tmp_path: Path, words: tuple[str, ...]) -> None:
    experiment = tiny("teacher.kind=hstu", "checkpoint_rows=100")
    folder = ingested(tmp_path / "run", experiment)
    shutil.copytree(folder.root, tmp_path / "whole")
    finish(tmp_path / "whole", experiment, "teacher")
    (code, _), = ended([subprocess.Popen([SCRIPT, "train", folder.root, "--model", "teacher"], text=True, stdout=subprocess.PIPE,
                                         stderr=subprocess.PIPE, env={**os.environ, VARIABLE: "step.learned:12"})])  # fmt: skip
    assert code == 1  # the process that trained was killed
    assert [code for code, _ in ended(started(folder.root, 2, *words))] == [0, 0]
    np.testing.assert_allclose(logits(folder.root), logits(tmp_path / "whole"), rtol=2e-3, atol=2e-4)


@pytest.mark.parametrize(("settings", "model", "says"), [
    ((), "light.distilled.s0", "a model that hears a teacher is trained in one process"),
    ((), "tiecher", "--model tiecher: ranks train one model"),
    (("teacher.kind=hstu", "teacher.pretrain={at: 0.5}"), "teacher", "pretrain is trained in one process"),
])  # fmt: skip
def test_what_ranks_cannot_share_is_refused(tmp_path: Path, settings: tuple[str, ...], model: str, says: str) -> None:
    folder = ingested(tmp_path / "run", tiny(*settings))
    environment = {**os.environ, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "WORLD_SIZE": "2",
                   "RECDISTILL_RANK_TIMEOUT": "30"}  # fmt: skip
    processes = [
        subprocess.Popen([SCRIPT, "train", folder.root, "--model", model], text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                         env={**environment, "RANK": str(rank)})
        for rank in range(2)
    ]  # fmt: skip
    for code, said in ended(processes):
        assert code == 2 and says in " ".join(said.split()), said


def test_rows_are_shared_out_once() -> None:
    for size in (1, 2, 3, 7):
        for rows in (0, 1, 5, 64):
            parts = [Ranks(rank, size).part(rows) for rank in range(size)]
            assert [row for part in parts for row in range(rows)[part]] == list(range(rows))


def test_one_process_is_no_rank() -> None:
    assert not asked_for({}) and not asked_for({"WORLD_SIZE": "1"}) and asked_for({"WORLD_SIZE": "2"})

"""Two ranks do what one does; one that dies ends the job with one line, and the job goes on with any number of ranks.

Of a checkpoint every rank writes its share, and none of them ever holds all of it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from recdistill.checkpoint.store import Checkpoint, Checkpoints
from recdistill.distributed.environment import asked_for
from recdistill.distributed.launch import joined
from recdistill.distributed.ranks import Ranks
from recdistill.errors import UserError
from recdistill.runs.folder import RunFolder
from recdistill.runs.jobs import jobs_by_name, jobs_of
from recdistill.tables.predictions import PredictionLog
from recdistill.train import build
from tests.checkpoint.test_store import flip
from tests.support.rank_processes import ended, free_port, started
from tests.support.runs import finish, ingested, tiny
from tests.support.sweeps import swept

KINDS = {
    "hstu": ("teacher.kind=hstu", "candidates.count=2", "teacher.epochs=0"),
    "target-attention": ("teacher.kind=target-attention", "teacher.replay=1", "teacher.epochs=1"),
    "token-mixer": (
        "teacher.kind=token-mixer",
        "teacher.optimiser=rowwise-adagrad",
        "teacher.sampling.negative=0.5",
        "teacher.options={mixer_layers: 3, auxiliary: 0.3}",
    ),
}
BLOCKS = tiny("teacher.kind=hstu", "checkpoint_rows=100")


def logits(root: Path, model: str = "teacher") -> np.ndarray:
    rows = (
        PredictionLog.open(root / "predictions")
        .scan(columns=["model", "sample_id", "logit_click", "logit_finish"])
        .collect()
        .filter(model=model)
        .drop("model")
        .sort("sample_id")
    )
    assert rows["sample_id"].is_unique().all()
    return rows.to_numpy()


def newest(root: Path, model: str = "teacher") -> Checkpoint:
    """Return the newest checkpoint, tables in order of their rows."""
    latest = Checkpoints(RunFolder(root).model(model)).latest()
    assert latest is not None
    tensors = dict(latest[1].tensors)
    for name in [name for name in tensors if name.startswith("table/")]:
        order = torch.argsort(latest[1].tensors[f"{name.rpartition('/')[0]}/rows"])
        tensors[name] = tensors[name][order]
    return Checkpoint(tensors, latest[1].state)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Return a run of HSTU in blocks of 100 rows, ingested, and the same trained to its end by one process."""
    root = tmp_path_factory.mktemp("whole")
    folder = ingested(root / "ingested", BLOCKS)
    shutil.copytree(folder.root, root / "trained")
    finish(root / "trained", BLOCKS, "teacher")
    return folder.root, root / "trained"


@pytest.mark.parametrize(
    ("kind", "ranks", "words"),
    swept(
        [
            ("hstu", 3, ()),
            ("token-mixer", 2, ("--shard",)),
            ("hstu", 2, ()),
            ("target-attention", 2, ()),
            ("token-mixer", 2, ()),
            ("hstu", 2, ("--shard",)),
            ("target-attention", 2, ("--short",)),
        ],
        quick=2,
    ),
)
def test_ranks_predict_and_learn_what_one_process_does(
    tmp_path: Path, kind: str, ranks: int, words: tuple[str, ...]
) -> None:
    """Three ranks do not divide the batch of 50. Short messages: Adam takes a gradient near 0 for one of either sign,
    so that single weights may differ by a step, and what is predicted hardly does.
    """
    short = "--short" in words
    experiment = tiny(*KINDS[kind])
    folder = ingested(tmp_path / "many", experiment)
    shutil.copytree(folder.root, tmp_path / "one")
    finish(tmp_path / "one", experiment, "teacher")
    for code, output in ended(started(folder.root, ranks, *words)):
        assert code == 0, output
    one, many = logits(tmp_path / "one"), logits(folder.root)
    np.testing.assert_allclose(many, one, rtol=2e-2 if short else 2e-3, atol=2e-3 if short else 2e-4)
    assert np.abs(many[:, 1:]).max() > 0.01
    learned, other = newest(tmp_path / "one"), newest(folder.root)
    assert learned.tensors.keys() == other.tensors.keys()
    for name, value in learned.tensors.items():
        assert value.shape == other.tensors[name].shape
        if name.startswith(("network/", "table/")) and value.is_floating_point() and not short:
            torch.testing.assert_close(other.tensors[name], value, rtol=5e-2, atol=2e-3, msg=name)
    for key in ("rows", "labels", "positives", "logloss", "learned", "steps"):
        assert other.state["totals"][key] == pytest.approx(learned.state["totals"][key], rel=1e-3), key
    spread, alone = (
        build.training_costs(run, experiment, jobs_of(experiment)[0]) for run in (folder, RunFolder(tmp_path / "one"))
    )
    assert (spread.dense_parameters, spread.sparse_parameters) == (alone.dense_parameters, alone.sparse_parameters)
    assert len(list((folder.model("teacher") / f"{other.state['block']:08d}").glob("*.safetensors"))) == ranks


STUDENT = "light.distilled.s0"
STUDENTS = {
    "one teacher's logits": ("students.light.distill.weight=2",),
    "candidates, of a sample of the negatives": (
        "candidates.count=2",
        "students.light.sampling.negative=0.6",
        "students.light.distill={weight: 2, towers: single, candidates: 2}",
    ),
    "hidden states, of part of the signals": (
        "teacher_hidden.width=4",
        "students.light.dense_clip=1.0",
        "students.light.distill={weight: 2, teacher_hidden: 2, share: 0.7}",
    ),
    "two teachers": (
        "teachers={other: {kind: pooled-mlp, width: 4, history: 5, batch: 50}}",
        "students.light.distill={weight: 2, teachers: [teacher, other]}",
    ),
}


@pytest.fixture(scope="module")
def halved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a log in which half of the finishes are not known: the share of labels is not that of signals."""
    path = tmp_path_factory.mktemp("log") / "log.parquet"
    draw = np.random.default_rng(0)
    finishes = pl.Series(draw.integers(0, 2, 400))
    pl.DataFrame(
        {
            "time": np.arange(400) * 10,
            "user": draw.integers(0, 30, 400),
            "item": draw.integers(0, 40, 400),
            "click": draw.integers(0, 2, 400),
            "finish": finishes.set(pl.Series(draw.random(400) < 0.5), None),
            "weight": draw.choice([0.5, 1.0, 3.0], 400),
        }
    ).write_parquet(path)
    return path


@pytest.mark.parametrize("student", swept([*STUDENTS], quick=2))
def test_a_distilled_student_learns_by_ranks_what_it_does_in_one_process(
    tmp_path: Path, halved: Path, student: str
) -> None:
    columns = (
        "{time: time, time_unit: s, user: user, item: item, tasks: {click: click, finish: finish}, weight: weight}"
    )
    experiment = tiny(f"data={{reader: table, path: {halved}, columns: {columns}}}", *STUDENTS[student])
    names = [job.name for job in jobs_by_name(experiment).values() if job.name.startswith(("teacher", "other"))]
    finish(tmp_path / "one", experiment, *names)
    shutil.copytree(tmp_path / "one", tmp_path / "many")
    finish(tmp_path / "one", experiment, STUDENT)
    for code, output in ended(started(tmp_path / "many", 3, model=STUDENT)):
        assert code == 0, output
    np.testing.assert_allclose(
        logits(tmp_path / "many", STUDENT), logits(tmp_path / "one", STUDENT), rtol=2e-3, atol=2e-4
    )
    alone, other = newest(tmp_path / "one", STUDENT), newest(tmp_path / "many", STUDENT)
    for name, value in alone.tensors.items():
        if name.startswith(("network/", "table/")) and value.is_floating_point():
            torch.testing.assert_close(other.tensors[name], value, rtol=5e-2, atol=2e-3, msg=name)


def goes_on(root: Path, ranks: int, *words: str) -> None:
    """Train a run to its end by so many ranks, or by one process."""
    if ranks == 1:
        return finish(root, BLOCKS, "teacher")
    for code, output in ended(started(root, ranks, *words)):
        assert code == 0, output


@pytest.mark.parametrize(
    ("kill", "words", "block", "left", "ranks"),
    swept(
        [
            ((0, "checkpoint.written:2"), ("--shard",), 0, 1, 3),
            ((1, "step.learned:12"), (), 1, 0, 1),
            ((1, "checkpoint.share:2"), ("--shard",), 0, 0, 1),  # one has written, the other not: nothing is published
        ]
    ),
)
def test_a_rank_that_dies_ends_the_job_in_one_line_and_it_goes_on_with_any_number(
    tmp_path: Path,
    whole: tuple[Path, Path],
    kill: tuple[int, str],
    words: tuple[str, ...],
    block: int,
    left: int,
    ranks: int,
) -> None:
    """left: parts of a checkpoint that nobody could remove; the next start does."""
    folder = RunFolder(Path(shutil.copytree(whole[0], tmp_path / "run")))
    outcomes = ended(started(folder.root, 2, *words, kill=kill))
    (code, output), (killed, _) = outcomes[1 - kill[0]], outcomes[kill[0]]
    assert killed == -9 and code == 1
    line = output.strip().splitlines()[-1]
    assert f"rank {1 - kill[0]} of 2: another rank is gone" in line and "Traceback" not in output
    assert Checkpoints(folder.model("teacher")).newest() == block
    assert len(list(folder.model("teacher").glob("*.part"))) == left
    goes_on(folder.root, ranks, *words)
    assert not list(folder.model("teacher").glob("*.part"))
    np.testing.assert_allclose(logits(folder.root), logits(whole[1]), rtol=2e-3, atol=2e-4)
    assert newest(folder.root).state["totals"]["rows"] == newest(whole[1]).state["totals"]["rows"] == 400


@pytest.mark.long
def test_ranks_that_draw_lengths_and_send_short_messages_do_the_same_after_a_kill(tmp_path: Path) -> None:
    folder = ingested(
        tmp_path / "killed",
        tiny(
            "teacher.kind=hstu",
            "checkpoint_rows=100",
            "teacher.history=8",
            "teacher.options={stochastic: 1.2, balanced: true}",
        ),
    )
    shutil.copytree(folder.root, tmp_path / "whole")
    ended(started(folder.root, 2, "--short", kill=(0, "checkpoint.published:2")))
    for root in (folder.root, tmp_path / "whole"):
        for code, output in ended(started(root, 2, "--short")):
            assert code == 0, output
    assert np.array_equal(logits(folder.root), logits(tmp_path / "whole"))


@pytest.mark.parametrize("words", [("--shard",), pytest.param((), marks=pytest.mark.long)])
def test_two_ranks_take_up_what_one_began(tmp_path: Path, whole: tuple[Path, Path], words: tuple[str, ...]) -> None:
    """The newest checkpoint is damaged, which both find, each having read a part of it."""
    root = Path(shutil.copytree(whole[1], tmp_path / "run"))
    checkpoints = Checkpoints(root / "models" / "teacher")
    last = checkpoints.newest()
    assert last is not None
    flip(root / "models" / "teacher" / f"{last:08d}" / "model.safetensors")
    goes_on(root, 2, *words)
    assert checkpoints.newest() == last and len(checkpoints.state(last)["shares"]) == 2
    one, many = newest(whole[1]).tensors, newest(root).tensors
    for name, value in one.items():
        if value.is_floating_point():
            torch.testing.assert_close(many[name], value, rtol=5e-2, atol=2e-3, msg=name)


MEASURED = """
import sys
from functools import partial
from pathlib import Path
import torch
from recdistill.config.models import TeacherConfig
from recdistill.train import build
from recdistill.checkpoint.store import Checkpoint, Checkpoints
from recdistill.train.learner import Learner
from recdistill.train.trainer import Totals, resumed
from recdistill.runs.jobs import jobs_by_name, jobs_of
from recdistill.distributed.launch import joined
from recdistill.models.embeddings.growable import TableOptions
from recdistill.models.heads import Towers
from recdistill.models.factory import build_backbone, dense_parameters
from recdistill.distributed.fsdp import Sharded

layers, width = int(sys.argv[2]), int(sys.argv[3])
config = TeacherConfig(kind="token-mixer")

def peak():
    lines = Path("/proc/self/status").read_text().splitlines()  # the other count is inherited
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))

def make(layers, width):
    torch.manual_seed(3)
    options = {"tokens": 4, "mixer_width": width, "mixer_layers": layers}
    shape = {"width": 8, "fields": 1, "slots": 0, "actions": 2, "length": 10}
    return Towers(build_backbone("token-mixer", **shape, tables=TableOptions(), options=options), 1)

with joined() as ranks:
    dense = Sharded(ranks, torch.device("cpu"))
    dense.built(partial(make, 1, 8))  # what is loaded at the first use is not counted
    peaks = [peak()]
    learner = Learner(dense.built(partial(make, layers, width)), config, dense=dense)
    peaks.append(peak())
    for parameter in learner.network.parameters():
        parameter.grad = torch.zeros_like(parameter)
    learner.optimiser.step()
    learner.optimiser.zero_grad()
    peaks.append(peak())
    tensors, state = learner.state()
    checkpoints = Checkpoints(Path(sys.argv[1]), ranks=ranks)
    checkpoints.publish(0, Checkpoint(tensors, {"learner": state, "totals": vars(Totals())}))
    peaks.append(peak())
    del tensors
    learner = Learner(dense.built(partial(make, layers, width)), config, dense=dense)
    peaks.append(peak())
    resumed(learner, checkpoints)
    peaks.append(peak())
    for mine, whole in zip(learner.network.parameters(), make(layers, width).parameters(), strict=True):
        assert torch.equal(dense.local(mine.detach()), whole[ranks.chunk(len(whole))])
    print(4 * dense_parameters(learner.network), *peaks)
"""


@pytest.mark.long
def test_no_rank_holds_the_whole(tmp_path: Path) -> None:
    """Peaks of memory, as the system counts it: at the start, at a checkpoint and when one is taken up;
    initial weights to the bit.
    """
    shared = {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(free_port()),
        "WORLD_SIZE": "2",
        "MALLOC_MMAP_THRESHOLD_": "65536",
        "OMP_NUM_THREADS": "1",
    }
    words = [sys.executable, "-c", MEASURED, str(tmp_path), "16", "256"]
    processes = [
        subprocess.Popen(
            words,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, **shared, "RANK": str(rank)},
        )
        for rank in range(2)
    ]
    for process in processes:
        output, errors = process.communicate(timeout=600)
        assert process.returncode == 0, errors
        whole, *peaks = map(int, output.split())
        start, _, checkpoint, again, taken_up = (
            after - before for before, after in zip(peaks, peaks[1:], strict=False)
        )
        assert 0.4 * whole < start < 0.7 * whole  # half of it, and a sixteenth on its way
        assert (
            checkpoint < 0.2 * whole and again < 0.2 * whole
        )  # written as it lies; what a step took has room for another share
        assert taken_up < 0.7 * whole  # weights and moments would be three times the whole


@pytest.mark.parametrize(
    ("settings", "model", "message"),
    swept(
        [
            ((), "tiecher", "--model tiecher: ranks train one model"),
            (("teacher.rows={most: 40}",), "teacher", "rows.most is 40, which 2 ranks cannot share out evenly"),
        ]
    ),
)
def test_what_ranks_cannot_share_is_refused(
    tmp_path: Path, settings: tuple[str, ...], model: str, message: str
) -> None:
    folder = ingested(tmp_path / "run", tiny(*settings))
    for code, output in ended(started(folder.root, 2, model=model)):
        assert code == 2 and message in " ".join(output.split()), output


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("RANK", "x"),
        ("WORLD_SIZE", "0"),
        ("RECDISTILL_RANK_TIMEOUT", "nan"),
        ("RECDISTILL_RANK_TIMEOUT", "inf"),
        ("RECDISTILL_RANK_TIMEOUT", "-5"),
    ],
)
def test_the_environment_of_a_rank_is_checked(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    for key, right in (
        ("RANK", "0"),
        ("WORLD_SIZE", "2"),
        ("MASTER_ADDR", "127.0.0.1"),
        ("MASTER_PORT", "1"),
        (name, value),
    ):
        monkeypatch.setenv(key, right)
    with pytest.raises(UserError, match=f"{name}='{value}': must be a number from"), joined():
        raise AssertionError("met nobody")


def test_rows_are_shared_out_once() -> None:
    for size in (1, 2, 3, 7):
        for rows in (0, 1, 5, 64):
            parts = [Ranks(rank, size).part(rows) for rank in range(size)]
            assert [row for part in parts for row in range(rows)[part]] == list(range(rows))


def test_one_process_is_no_rank() -> None:
    assert not asked_for({}) and not asked_for({"WORLD_SIZE": "1"}) and asked_for({"WORLD_SIZE": "2"})

"""Two ranks learn what one process does, case by case: all of them in one launch."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from recdistill.checkpoint.store import Checkpoint, Checkpoints
from recdistill.config.experiment import Experiment
from recdistill.distributed.ranks import Ranks
from recdistill.errors import UserError
from recdistill.runs.folder import RunFolder
from recdistill.runs.jobs import every_job
from recdistill.tables.predictions import PredictionLog
from recdistill.train.build import trainer_of
from recdistill.train.pool import check_sharded, train_ranked
from recdistill.train.trainer import Progress
from tests.support.programs import missing, needs
from tests.support.rank_processes import met
from tests.support.runs import by_id, finish, tiny
from tests.train.test_start_from import FEBRUARY, JANUARY, OLD, log
from tests.train.test_start_from import experiment_of as a_log

DISTILLED, RAW = "light.distilled.s0", "light.raw.s0"
WARM = "students.light.distill.warm_start"
SMALLER = "students.light.options={hidden: [12, 8]}"
EXPERTS = "{variant: rankmixer, tokens: 2, mixer_width: 8, mixer_layers: 1, experts: 3, active: 1}"
GATE = "gate: {start: teacher-ahead, window: 100, margin: 0, sigmas: 0, by: device}"
MIXER = "students.light={kind: token-mixer, width: 4, history: 5, batch: 50, options: {tokens: 2, mixer_width: 8}}"
CASES = {  # settings, what is trained before by one process, and what by ranks
    "a fold": (
        ("students.light.distill={weight: 1, signals: crossfit}", "crossfit={folds: 2, share: 0.5}"),
        (),
        "teacher.fold0",
    ),
    "a gate": ((f"students.light.distill={{weight: 1, {GATE}}}",), ("teacher",), DISTILLED),
    "a weight that finds itself, an adapter": (  # which gives something after 1,000 rows
        (
            "students.light.distill={weight: auto, adapter: {hidden: [3]}}",
            "students.light.epochs=7",
            "students.light.sampling.negative=0.9",
        ),
        ("teacher",),
        DISTILLED,
    ),
    "dice": (("students.light={kind: din, width: 4, history: 5, batch: 50, options: {activation: dice}}",), (), RAW),
    "pretraining": (
        (
            "teacher={kind: hstu, width: 4, history: 5, batch: 50}",
            "teacher.pretrain={at: 0.5, batch: 7, category: topic, dense: true}",
        ),
        (),
        "teacher",
    ),
    "experts that a ReLU chooses": (  # of odd parts; the first rank has none of the last step
        (f"teacher={{kind: token-mixer, width: 4, history: 5, batch: 19, options: {EXPERTS}}}",),
        (),
        "teacher",
    ),
    "the teacher's order within requests": (
        (MIXER, "students.light.distill={weight: 0.5, listwise: 2}", "candidates.count=1", "students.light.epochs=2"),
        ("teacher",),
        DISTILLED,
    ),
    "hidden states, recorded": (
        ("teacher_hidden.width=4", "teacher_hidden.learn_rows=300", "teacher.batch=19"),
        (),
        "teacher",
    ),
    "rows that FBGEMM holds": (("teacher.optimiser=rowwise-adagrad", "checkpoint_rows=50"), (), "teacher"),
    "rows that are bounded": (
        ("teacher.rows={most: 96, admit: 2}", "candidates.count=2"),
        (),
        "teacher",
    ),
    "bounded rows of experts, which are read before they are learned from": (
        (
            f"teacher={{kind: token-mixer, width: 4, history: 5, batch: 19, options: {EXPERTS}}}",
            "teacher.rows={most: 96, admit: 1}",
        ),
        (),
        "teacher",
    ),
    "narrow rows, some of them whole": (
        ("students.light.rows={most: 96, admit: 2, narrow: 2}", "students.light.epochs=1"),
        (),
        RAW,
    ),
    "rows that ids share": (
        ("teacher.rows={most: 24, share: quotient-remainder}", "candidates.count=2"),
        (),
        "teacher",
    ),
    "its teacher's rows, frozen for a while": (
        ("teacher.width=6", "checkpoint_rows=50", f"{WARM}={{at: 0.5, parts: [item, user], frozen: 0.25}}"),
        ("teacher",),
        DISTILLED,
    ),
    "its teacher's network, by shares": (
        (
            "teacher.options={hidden: [16, 8]}",
            "checkpoint_rows=50",
            f"{WARM}={{at: 0.5, parts: [network]}}",
            SMALLER,
            "students.light.width=3",
            "students.light.distill.weight=2",
        ),
        ("teacher",),
        DISTILLED,
    ),
    "pruned by the labels' gradient": (
        (
            "checkpoint_rows=50",
            "students.light.options.hidden=[8, 6]",
            "students.light.prune={from: {width: 7, hidden: [16, 12]}, start: 0.2, end: 0.7, of: labels}",
            "students.light.distill.weight=2",
        ),
        ("teacher",),
        DISTILLED,
    ),
    "pruned, by shares": (
        (
            "students.light={kind: pooled-mlp, width: 4, history: 5, options: {hidden: [8, 6]}, batch: 50}",
            "students.light.prune={from: {width: 6, hidden: [16, 12]}, start: 0, end: 0.5}",
        ),
        (),
        RAW,
    ),
    "shrunken and grown, by turns": (
        (
            "checkpoint_rows=50",
            "students.light.options.hidden=[12, 8]",
            "students.light.alternate={to: {width: 2, hidden: [6, 4]}, every: 2, shrunken: 1, regrow: fresh}",
        ),
        (),
        RAW,
    ),
    "products in bfloat16": ((MIXER, "students.light.options.precision=bfloat16"), (), RAW),
    "an earlier run's model, made wider": ((MIXER, "students.light.width=5"), (), RAW),
}
SHARDS = {  # cases that ranks learn by shares, and how many of them share each layer of a token mixer
    "its teacher's network, by shares": 1,
    "rows that are bounded": 1,
    "dice": 1,
    "pruned, by shares": 1,
    "shrunken and grown, by turns": 1,
    "pretraining": 1,
    "rows that ids share": 1,
    "a gate": 1,
    "a weight that finds itself, an adapter": 1,
    "experts that a ReLU chooses": 1,
    "hidden states, recorded": 1,
    "the teacher's order within requests": 2,
    "products in bfloat16": 2,
    "an earlier run's model, made wider": 2,
}
ORDERED = "the teacher's order within requests"
LATER = "an earlier run's model, made wider"
HELD = "rows that FBGEMM holds"  # one process begins with its own
TURNS = "shrunken and grown, by turns"  # one process begins, is killed, and so are the ranks that go on: one ends it
KILLED = 2, 5  # checkpoints that there are then


# products of bfloat16 numbers: what ranks' sums differ by is rounded there, which full precision shows 7 times over
COARSE = {"products in bfloat16": 20}


def requests(path: Path) -> None:
    """Write a log of requests of three rows each, which no halves of a batch of 50 have whole."""
    draw, rows = np.random.default_rng(0), np.arange(300)
    users = draw.integers(0, 20, 100)[rows // 3]
    columns = {"user_id": users, "item_id": draw.integers(0, 40, 300), "time": rows // 3 * 60}
    pl.DataFrame({**columns, "label": draw.integers(0, 2, 300)}).write_csv(path)


def experiment_of(case: str, root: Path) -> Experiment:
    """Return a case's experiment; the run before, if one is needed, stands next to `root`."""
    settings = CASES[case][0]
    if case == ORDERED:
        path = root.parent / "requests.csv"
        requests(path)
        return tiny(f"data={{reader: table, path: {path}}}", *settings)
    if case != LATER:
        return tiny(*settings)
    items = range(40), range(20, 60)
    logs = [log(root.parent / f"{start}.csv", start, of) for start, of in zip((JANUARY, FEBRUARY), items, strict=True)]
    finish(root.parent / "old", a_log(logs[0], MIXER), OLD)
    return a_log(logs[1], f"students.light.start_from={root.parent / 'old' / 'models' / OLD}", *settings)


def until(learns: Iterator[Progress], model: Path, checkpoints: int) -> None:
    """Learn until there are so many checkpoints."""
    for _ in learns:
        if len(Checkpoints(model).blocks()) and Checkpoints(model).blocks()[-1] >= checkpoints - 1:
            return


def trained(cases: list[tuple[Path, str, str, int]], ranks: Ranks) -> None:
    """Train a model of each run as one of the ranks."""
    for root, text, name, tensor in cases:
        experiment, folder = Experiment.model_validate_json(text), RunFolder(root)
        here = replace(ranks, tensor=max(tensor, 1))
        learns = train_ranked(folder, experiment, every_job(experiment)[name], here, tensor > 0)
        until(learns, root / "models" / name, KILLED[1] if experiment.students["light"].alternate else sys.maxsize)
        ranks.wait()


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Path]]:
    """Return by case the run of one process and that of two ranks."""
    found, asked = {}, []
    for case, (_, before, name) in CASES.items():
        if case == HELD and missing("fbgemm_gpu"):
            continue
        root = tmp_path_factory.mktemp("ranked")
        experiment = experiment_of(case, root / "one")
        finish(root / "one", experiment, *before)
        shutil.copytree(root / "one", root / "many")
        for run, count in (("one", sys.maxsize), ("many", KILLED[0] if case in (TURNS, HELD) else 0)):
            trainer = trainer_of(RunFolder(root / run), experiment, every_job(experiment)[name])
            until(trainer.run_to_end() if count else iter(()), root / run / "models" / name, count)
        found[case] = root / "one", root / "many"
        if case == HELD:
            experiment = tiny(*CASES[case][0], "teacher.embeddings=torchrec")
        asked.append((root / "many", experiment.model_dump_json(), name, SHARDS.get(case, 0)))
    met(2, partial(trained, asked))
    finish(found[TURNS][1], experiment_of(TURNS, found[TURNS][1]), RAW)
    return found


@pytest.mark.parametrize(
    ("case", "tensor", "message"),
    [
        ("pruned by the labels' gradient", 1, f"{DISTILLED}: prune.of: labels does not go with --shard; set of: loss"),
        (TURNS, 2, f"{RAW}: prune and alternate do not go with --tensor"),
    ],
)
def test_what_ranks_do_not_do_by_shares_is_refused(case: str, tensor: int, message: str) -> None:
    with pytest.raises(UserError, match=message):
        check_sharded(every_job(tiny(*CASES[case][0]))[CASES[case][2]], tensor)


def newest(root: Path, name: str) -> Checkpoint:
    """Return the newest checkpoint, tables in order of their ids."""
    latest = Checkpoints(RunFolder(root).model(name)).latest()
    assert latest is not None
    return Checkpoint(by_id(latest[1].tensors), latest[1].state)


@pytest.mark.parametrize(
    "case", [pytest.param(case, marks=needs("fbgemm_gpu") if case == HELD else ()) for case in CASES]
)
def test_two_ranks_learn_what_one_process_does(runs: dict[str, tuple[Path, Path]], case: str) -> None:
    one, many = (newest(root, CASES[case][2]) for root in runs[case])
    coarse = COARSE.get(case, 1)
    assert one.tensors.keys() == many.tensors.keys() and len(many.state.get("shares", [])) == 2 * (case != TURNS)
    for name, value in one.tensors.items():
        assert value.shape == many.tensors[name].shape, name
        if value.is_floating_point() and not value.dim():
            torch.testing.assert_close(many.tensors[name], value, rtol=1e-3, atol=0.0, msg=name)
        elif name.startswith("resizer/"):
            torch.testing.assert_close(many.tensors[name], value, rtol=1e-2, atol=1e-2 * float(value.max()), msg=name)
        elif value.is_floating_point():
            torch.testing.assert_close(many.tensors[name], value, rtol=5e-2, atol=2e-3 * coarse, msg=name)
    for key in ("rows", "labels", "positives", "logloss", "learned", "steps"):
        assert many.state["totals"][key] == pytest.approx(one.state["totals"][key], rel=1e-3), key
    assert many.state["totals"]["began"] == one.state["totals"]["began"]
    for key in ("bounded", "resizer"):
        assert many.state["learner"].get(key) == one.state["learner"].get(key)
    for key in ("gate", "auto", "adapter"):
        ours, theirs = (np.array([*run.state["learner"].get(key, {"": 0}).values()]) for run in (many, one))
        np.testing.assert_allclose(ours, theirs, rtol=1e-2, atol=1e-6, err_msg=key)
    alone, shared = (
        PredictionLog.open(root / "predictions").scan().collect().sort("model", "sample_id") for root in runs[case]
    )
    assert alone["sample_id"].equals(shared["sample_id"]) and alone["model"].equals(shared["model"])
    if "state" in alone.columns:
        codes, others = (np.frombuffer(b"".join(each["state"].drop_nulls()), np.int8) for each in (alone, shared))
        assert len(codes) == len(others) > 1000 and (codes != others).mean() < 0.02
    for column in [name for name in alone.columns if name.startswith("logit_")]:
        np.testing.assert_allclose(shared[column].to_numpy(), alone[column].to_numpy(), rtol=2e-3, atol=2e-4 * coarse)

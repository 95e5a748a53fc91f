"""A student that goes on as a larger one of the experiment, pruned: to the bit one that was pruned by itself in a step,
and no bit other after a kill.
"""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch
from pydantic import ValidationError

from recdistill.app.run import open_run, train_stage
from recdistill.checkpoint.store import Checkpoints
from recdistill.config.experiment import Experiment
from recdistill.distributed.ranks import ALONE
from recdistill.errors import UserError
from recdistill.runs.folder import RunFolder
from recdistill.runs.jobs import enlarged_by_name, jobs_by_name
from recdistill.tables.predictions import PredictionLog
from recdistill.train import build, pool
from recdistill.train.trainer import Trainer
from tests.support.runs import finish, ingested, same_bits, tiny, trainer

WIDE = "kind: pooled-mlp, history: 5, batch: 50, distill: {weight: auto}"
SIZES = "width: 8, options: {hidden: [24, 12]}"
FROM = "students.light.pruned_from"
SMALL = ("students.light.options={hidden: [16, 12]}", f"{FROM}={{student: wide, at: 0.5}}")
ALONE_TOO = (
    f"students.alone={{{WIDE}, width: 4, options: {{hidden: [16, 12]}}, prune: {{from: {{width: 8, hidden: [24, 12]}}, "
    "start: 0.375, end: 0.5, importance: magnitude}}"
)


def family(*assignments: str, wide: str = SIZES) -> Experiment:
    """Return an experiment of a student, and a larger one that it goes on as from block 4 of 8."""
    return tiny("checkpoint_rows=50", f"students.wide={{{WIDE}, {wide}}}", *SMALL, *assignments)


def stepped(found: Trainer, block: int) -> Trainer:
    """Return the trainer after training up to a block."""
    for _ in found.run_to_end():
        if found.checkpoints.newest() == block - 1:
            return found
    return found


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a run of a larger student, and of one that is pruned by itself in one step where the smaller begins."""
    torch.set_num_threads(1)
    root = tmp_path_factory.mktemp("pruned-from")
    finish(root, family(ALONE_TOO), "teacher", *(f"{name}.{kind}.s0" for kind in KINDS for name in ("wide", "alone")))
    return root


KINDS = ("raw", "distilled")


def recorded(root: Path, name: str) -> pl.DataFrame:
    table = PredictionLog.open(root / "predictions")
    rows = pl.concat([*table.of(name, table.version, ["sample_id", "logit_click"])])
    return rows.sort("sample_id")


def without_clock(totals: Any) -> Any:
    return replace(totals, seconds=0.0)


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_one_that_was_pruned_by_itself_in_one_step_also_after_a_kill(
    trained: Path, tmp_path: Path, kind: str
) -> None:
    root, experiment = shutil.copytree(trained, tmp_path / "run"), family(ALONE_TOO)
    alone = trainer(root, experiment, f"alone.{kind}.s0")
    stepped(alone, 8)  # which is there: it is taken up
    want = Checkpoints(root / "models" / f"alone.{kind}.s0").load(7)
    for block in (5, 8):  # killed after its first block
        found = stepped(trainer(root, experiment, f"light.{kind}.s0"), block)
    assert found.checkpoints.newest() == 7 and found.pruned is not None
    assert same_bits(found.checkpoints.load(7).tensors, want.tensors)
    assert without_clock(found.totals()) == without_clock(alone.totals())
    jobs, folder = jobs_by_name(experiment), RunFolder(root)
    costs = [build.training_costs(folder, experiment, jobs[f"{name}.{kind}.s0"]) for name in ("light", "alone", "wide")]
    assert costs[0].flops == costs[1].flops and costs[0].rows == costs[2].rows
    assert costs[0].flops is not None and costs[2].flops is not None and costs[0].flops < costs[2].flops
    mine, theirs = (recorded(root, f"{name}.{kind}.s0") for name in ("light", "alone"))
    assert len(mine) == 200 and mine.equals(theirs.join(mine, on="sample_id", how="semi").sort("sample_id"))


def test_the_larger_one_keeps_that_checkpoint_and_each_goes_on_as_its_own_kind(trained: Path) -> None:
    assert Checkpoints(trained / "models" / "wide.raw.s0").blocks() == [3, 6, 7]
    experiment = family("evaluate.seeds=[0, 1]", "controls=[self]")
    found = {name: larger.name for name, larger in enlarged_by_name(experiment).items()}
    kinds = [f"{kind}.s{seed}" for kind in ("raw", "distilled", "self") for seed in (0, 1)]
    assert found == {f"light.{kind}": f"wide.{kind}" for kind in kinds}


def test_it_goes_by_the_importance_that_was_measured(tmp_path: Path) -> None:
    experiment = family(wide=f"{SIZES}, prune: {{from: {{width: 12, hidden: [32, 16]}}, start: 0.4, end: 0.9}}")
    ingested(tmp_path, experiment)
    wide = stepped(trainer(tmp_path, experiment, "wide.raw.s0"), 4)
    assert wide.learner.resizer is not None
    importance = wide.learner.resizer.importance
    assert importance.measure == "taylor" and importance.widths.sizes["width"] > 8
    own = {"width": 4, "hidden.0": 16, "hidden.1": 12}
    units = importance.kept({**importance.widths.sizes, **own})["width"]
    rows = [table.state()["weight"] for table in wide.learner.tables if table.name == "item"]
    stepped(wide, 8)
    found = trainer(tmp_path, experiment, "light.raw.s0")
    assert found.pruned is not None
    tensors, state = found.pruned.taken()
    found.learner.restore(tensors, state["learner"])
    found.learner.resize(4)
    (item,) = [table.state()["weight"] for table in found.learner.tables if table.name == "item"]
    assert torch.equal(item, rows[0][:, units]) and not torch.equal(item, rows[0][:, :4])


def test_it_waits_for_the_larger_one(tmp_path: Path) -> None:
    experiment = family()
    ingested(tmp_path, experiment)
    with pytest.raises(UserError, match=r"wide\.raw\.s0 is not trained yet"):
        train_stage(RunFolder(tmp_path), experiment, ["light.raw.s0"])
    with pytest.raises(UserError, match=r"wide\.raw\.s0: was trained before anything was to begin from it"):
        trainer(tmp_path, experiment, "light.raw.s0")
    job = jobs_by_name(experiment)["light.raw.s0"]
    with pytest.raises(UserError, match=r"light\.raw\.s0: pruned_from is for one process"):
        next(pool.train_ranked(RunFolder(tmp_path), experiment, job, ALONE, False))


@pytest.mark.parametrize(
    ("assignments", "why"),
    [
        ([f"{FROM}.student=wise"], r"pruned_from.student: there is no student 'wise'; did you mean 'wide'"),
        ([f"{FROM}.student=light"], r"'light' has pruned_from itself; name a student without"),
        (["students.wide.pruned_from={student: light}"], r"has pruned_from itself; name a student without"),
        (["students.wide.alternate={to: {width: 4}}"], r"'wide' has alternate itself"),
        (
            ["students.wide.kind=dcn-v2", "students.wide.batch=25"],
            r"'wide' has another kind, batch; the two may differ",
        ),
        (["students.wide.distill.weight=1.0"], r"'wide' has another distill; the two may differ in width and options"),
        ([f"{FROM}.at=0.6"], r"at 0.6 lies after evaluate.start 0.5"),
        (["students.light.prune={from: {width: 8}}"], r"pruned_from does not go with prune; leave one of them out"),
        (
            ["students.light.distill.warm_start={}", "students.light.start_from=runs/old"],
            r"pruned_from does not go with start_from, distill.warm_start",
        ),
    ],
)
def test_what_does_not_go_together_is_refused(assignments: list[str], why: str) -> None:
    with pytest.raises((ValidationError, UserError), match=why):
        family(*assignments)


@pytest.mark.parametrize(
    ("assignments", "why"),
    [
        (["students.wide.width=3"], r"'wide' is no larger at that point: width 3 against the student's own 4"),
        (["students.wide.width=4", "students.wide.options={hidden: [16, 12]}"], "is no larger at that point: width 4"),
        (["students.wide.options={hidden: [24]}"], "light.pruned_from: the two networks differ in more than"),
        (
            [f"students.{name}.kind=token-mixer" for name in ("light", "wide")]
            + [f"students.{name}.options={{tokens: 2, mixer_width: {n}}}" for name, n in (("light", 8), ("wide", 16))],
            "light.pruned_from: TokenMixerModel: no MLP mixes here, so none of its widths can change",
        ),
    ],
)
def test_what_cannot_be_pruned_to_its_size_is_refused_before_anything_is_written(
    tmp_path: Path, assignments: list[str], why: str
) -> None:
    with pytest.raises(UserError, match=why) as found, open_run(family(*assignments), None, tmp_path / "run"):
        pass
    assert "\n" not in str(found.value) and not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("assignments", "wide", "why"),
    [
        ([f"{FROM}.at=0.1"], SIZES, r"at 0.1 of 400 samples ends before the first checkpoint; lower checkpoint_rows"),
        (
            ["students.light.width=6"],
            "width: 4, options: {hidden: [16, 12]}, prune: {from: {width: 8}, start: 0.1, end: 0.4}",
            r"'wide' is no larger at that point: width 4 against the student's own 6",
        ),
    ],
)
def test_what_the_log_does_not_allow_is_refused_before_training(
    tmp_path: Path, assignments: list[str], wide: str, why: str
) -> None:
    experiment = family(*assignments, wide=wide)
    ingested(tmp_path, experiment)
    with pytest.raises(UserError, match=f"students.light.pruned_from: {why}"):
        train_stage(RunFolder(tmp_path), experiment)
    assert not (tmp_path / "models").exists()

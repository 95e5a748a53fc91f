"""A student that begins from its teacher's rows: as the teacher had them there, no row is lost, and no bit after a
kill.
"""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from recdistill.app.run import open_run
from recdistill.checkpoint.store import Checkpoints
from recdistill.config.experiment import Experiment
from recdistill.errors import UserError
from recdistill.models.embeddings.growable import GrowableTable
from recdistill.models.factory import named_tables
from recdistill.runs.folder import RunFolder
from recdistill.runs.jobs import controls_of, jobs_by_name
from recdistill.train import build
from recdistill.train.trainer import Trainer
from recdistill.train.warm_start import WarmStart
from tests.support.runs import finish, ingested, same_bits, tiny, trainer

START = "students.light.distill.warm_start"
STUDENT = "light.distilled.s0"


def warm(*assignments: str, start: str = "{at: 0.5, parts: [item, user]}") -> Experiment:
    return tiny("checkpoint_rows=50", "teacher.width=6", f"{START}={start}", *assignments)


def run(root: Path, experiment: Experiment) -> Trainer:
    """Return the student's trainer, its teacher trained."""
    finish(root, experiment, "teacher")
    return trainer(root, experiment, STUDENT)


def stepped(found: Trainer, block: int) -> Trainer:
    """Return the trainer after training up to a block."""
    for _ in found.run_to_end():
        if found.checkpoints.newest() == block - 1:
            return found
    return found


def tables(found: Trainer) -> dict[str, GrowableTable]:
    return {table.name: table for table in named_tables(found.learner.network).values()}


def start_of(found: Trainer) -> WarmStart:
    (start,) = found.starts
    assert isinstance(start, WarmStart)
    return start


def teacher_rows(root: Path, block: int, number: int) -> tuple[torch.Tensor, torch.Tensor]:
    stored = Checkpoints(root / "models" / "teacher").stored(block)
    return stored[f"table/{number}/rows"][...], stored[f"table/{number}/weight"][...]


def test_the_rows_are_the_teachers_of_that_point_in_all_dot_products(tmp_path: Path) -> None:
    found = stepped(run(tmp_path, warm("students.light.width=6", "teacher.replay=0")), 4)
    assert start_of(found).block == 4
    own = {name: table.state() for name, table in tables(found).items()}
    had = {name: table.peek(torch.arange(41)) for name, table in tables(found).items()}
    taken = start_of(found).before(4, found.learner)
    now = {name: table.state() for name, table in tables(found).items()}
    names = list(tables(found))
    for name in ("item", "user"):
        rows, weight = teacher_rows(tmp_path, 3, names.index(name))
        mine = tables(found)[name].peek(rows).double()
        products, wanted = mine @ mine.T, weight.double() @ weight.double().T
        scale = float((products * wanted).sum() / wanted.square().sum())
        assert torch.allclose(products, scale * wanted, atol=1e-6 * float(products.abs().max()))
        assert bool((now[name]["steps"] == 1).all()) and not bool(now[name]["first"].any())
        kept = now[name]["weight"].square().sum() / own[name]["weight"].square().sum()
        assert 0.2 < float(kept) < 5  # as long, on the whole, as the rows that the network could read
    met = torch.zeros(6, 6)
    for name in ("item", "user"):
        rows, _ = teacher_rows(tmp_path, 3, names.index(name))
        met += had[name][rows].T @ tables(found)[name].peek(rows)
    nuclear = float(torch.linalg.svdvals(met).sum())  # no rotation of the rows meets those that it had better
    assert abs(float(met.trace()) - nuclear) < 1e-4 * nuclear
    assert all(torch.equal(own["context"][key], now["context"][key]) for key in own["context"])
    assert taken is not None and taken.rows == sum(len(now[name]["rows"]) for name in ("item", "user"))


def test_its_predictions_up_to_there_are_those_of_a_student_without_one(tmp_path: Path) -> None:
    found = stepped(run(tmp_path / "warm", warm()), 4)
    plain = stepped(run(tmp_path / "plain", tiny("checkpoint_rows=50", "teacher.width=6")), 4)
    one, other = (each.checkpoints.stored(3) for each in (found, plain))
    assert same_bits({k: v[...] for k, v in one.items()}, {k: v[...] for k, v in other.items()})
    found, plain = stepped(found, 5), stepped(plain, 5)
    assert not torch.equal(*(each.learner.network.state_dict()["main.1.weight"] for each in (found, plain)))


def test_the_teacher_keeps_the_checkpoint_and_no_other(tmp_path: Path) -> None:
    finish(tmp_path, warm(), "teacher")
    assert Checkpoints(tmp_path / "models" / "teacher").blocks() == [3, 14, 15]  # two passes of eight


@pytest.mark.parametrize("frozen", [0.0, 0.25, 1.0])  # of less than a checkpoint: see test_plan.py
def test_rows_that_are_frozen_learn_again_when_they_may(tmp_path: Path, frozen: float) -> None:
    found = run(tmp_path, warm(start=f"{{at: 0.5, frozen: {frozen}}}"))
    rows, _ = teacher_rows(tmp_path, 3, 0)
    stepped(found, 5)
    after = tables(found)["item"].peek(rows)
    stepped(found, 6)
    until = tables(found)["item"].peek(rows)
    stepped(found, 8)
    end = tables(found)["item"].peek(rows)
    assert torch.equal(after, until) == (frozen > 0)
    assert torch.equal(until, end) == (frozen == 1)


@pytest.mark.parametrize("block", [4, 5])
def test_resumed_it_is_bit_for_bit_the_same(tmp_path: Path, block: int) -> None:
    experiment = warm(start="{at: 0.5, frozen: 0.25}")
    whole = run(tmp_path / "whole", experiment)
    shutil.copytree(tmp_path / "whole", tmp_path / "killed")
    stepped(whole, 16)
    first = trainer(tmp_path / "killed", experiment, STUDENT)
    stepped(first, block)
    second = trainer(tmp_path / "killed", experiment, STUDENT)
    stepped(second, 16)
    states = [each.learner.state()[0] for each in (whole, second)]
    assert same_bits(*states) and second.totals().began == whole.totals().began != {}


def test_of_one_size_the_student_is_the_teacher_of_that_point(tmp_path: Path) -> None:
    experiment = warm("teacher.width=4", start="{at: 0.5, parts: [network]}")
    teacher = stepped(after_ingest(tmp_path / "teacher", experiment, "teacher"), 4)
    found = stepped(run(tmp_path / "run", experiment), 4)
    batch = found.builder.unlabelled(np.arange(400))
    want = teacher.learner.predict(batch)
    assert not torch.equal(found.learner.predict(batch), want)
    taken = start_of(found).before(4, found.learner)
    assert torch.equal(found.learner.predict(batch), want) and not found.learner.optimiser.state
    aux = found.learner.network.heads(found.learner.network.shared(batch))[1]
    assert aux is not None and torch.equal(batch.as_drawn(aux), want)
    assert taken is not None and taken.rows == sum(table.touched for table in teacher.learner.tables)


def after_ingest(root: Path, experiment: Experiment, name: str) -> Trainer:
    ingested(root, experiment)
    return trainer(root, experiment, name)


@pytest.mark.parametrize("kind", ["pooled-mlp", "hstu", "token-mixer"])
def test_a_network_of_fewer_units_and_layers_resumes_to_the_bit(tmp_path: Path, kind: str) -> None:
    sizes = {
        "pooled-mlp": ("6", "{hidden: [16, 8]}", "{hidden: [12, 8]}"),
        "hstu": ("4", "{layers: 3, hidden: [8]}", "{layers: 2, hidden: [6]}"),
        "token-mixer": ("4", "{tokens: 2, mixer_width: 8}", "{tokens: 2, mixer_width: 8}"),  # of one size
    }
    width, larger, smaller = sizes[kind]
    experiment = tiny(
        *("checkpoint_rows=50", f"teacher.width={width}", f"teacher.kind={kind}", f"students.light.kind={kind}"),
        *(f"teacher.options={larger}", f"students.light.options={smaller}"),
        f"{START}={{at: 0.5, parts: [network], frozen: 0.25}}",
    )
    whole = run(tmp_path / "whole", experiment)
    shutil.copytree(tmp_path / "whole", tmp_path / "killed")
    stepped(whole, 16)
    for block in (4, 5, 16):
        killed = stepped(trainer(tmp_path / "killed", experiment, STUDENT), block)
    assert same_bits(whole.learner.state()[0], killed.learner.state()[0])
    assert whole.totals().began["rows"] > 0


def test_the_raw_twin_has_none_and_the_self_control_begins_from_its_own_teacher(tmp_path: Path) -> None:
    experiment = warm("controls=[self]", "evaluate.seeds=[0, 1]")
    jobs = jobs_by_name(experiment)
    assert jobs["light.raw.s0"].distill is not None and jobs["light.raw.s0"].distill.warm_start is None
    finish(tmp_path, experiment, "light.raw.s1")
    assert Checkpoints(tmp_path / "models" / "light.raw.s1").blocks() == [3, 6, 7]
    control = controls_of(experiment)["light"]["self"][0]
    found = build.trainer_of(ingested(tmp_path, experiment), experiment, control)
    assert start_of(found).donor.name == "light.raw.s1"


def test_a_warm_start_alone_uses_the_teacher(tmp_path: Path) -> None:
    experiment = warm("students.light.distill.weight=0.0")
    assert jobs_by_name(experiment)[STUDENT].uses_teacher
    assert stepped(run(tmp_path, experiment), 16).totals().began["rows"] > 0


def test_the_ledger_counts_it(tmp_path: Path) -> None:
    experiment = warm()
    found = stepped(run(tmp_path, experiment), 16)
    job = jobs_by_name(experiment)[STUDENT]
    folder = ingested(tmp_path, experiment)
    totals = found.totals()
    flops = build.training_flops(folder, experiment, job, totals)
    without = build.training_flops(folder, experiment, job, replace(totals, began={}))
    assert flops is not None and without is not None and flops - without == totals.began["flops"] > 0
    assert build.began(folder, job) == totals.began


@pytest.mark.parametrize(
    ("assignments", "why"),
    [
        (["teacher.kind=tests.support.networks:WithWidths", "teacher.options={}"], "teacher has no table user to proj"),
        (["teacher.rows={most: 64}"], "teacher has bounded rows, which belong to other ids"),
        (["students.light.kind=tests.support.networks:NoWidths"], "students.light has no table user to project"),
        ([f"{START}.parts=[network]", "students.light.kind=din"], "network: teacher is a PooledMLP, the student a DIN"),
        (
            [f"{START}.parts=[network]", "students.light.options={hidden: [8]}"],
            "network: the two networks differ in more than their widths",
        ),
        (
            [f"{START}.parts=[network]", "students.light.numbers=[]"],
            r"network: numbers was .* is \[\] here; give the s",
        ),
    ],
)
def test_a_part_without_a_table_is_refused_before_anything_is_written(
    tmp_path: Path, assignments: list[str], why: str
) -> None:
    with pytest.raises(UserError, match=why), open_run(warm(*assignments), None, tmp_path / "run"):
        pass
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("assignments", "why"),
    [
        ([f"{START}.parts=[item, item]"], "each may stand once"),
        ([f"{START}.parts=[price]"], "item"),
        ([f"{START}.parts=[network, item]"], "network brings the rows of every table; name it alone"),
        ([f"{START}.parts=[network]", "students.light.prune={from: {width: 8}}"], "leave out prune or alternate"),
        (["students.light.pretrain={}"], "both make the item rows"),
        (
            ["teachers.other={kind: pooled-mlp}", "students.light.distill.teachers=[teacher, other]"],
            "begins from one teacher",
        ),
    ],
)
def test_what_does_not_go_together_is_refused(assignments: list[str], why: str) -> None:
    with pytest.raises((ValidationError, UserError), match=why):
        warm(*assignments)


def test_a_log_that_is_too_short_and_a_teacher_that_kept_nothing_are_refused(tmp_path: Path) -> None:
    early = warm(start="{at: 0.1}")
    finish(tmp_path / "early", early, "teacher")
    with pytest.raises(UserError, match=r"warm_start.at 0.1 of 400 samples ends before the first checkpoint; lower"):
        trainer(tmp_path / "early", early, STUDENT)
    finish(tmp_path / "late", tiny("checkpoint_rows=50", "teacher.width=6"), "teacher")
    with pytest.raises(UserError, match="teacher: was trained before anything was to begin from it"):
        build.trainer_of(RunFolder(tmp_path / "late"), warm(), jobs_by_name(warm())[STUDENT])


def test_a_damaged_checkpoint_is_refused(tmp_path: Path) -> None:
    experiment = warm()
    finish(tmp_path, experiment, "teacher")
    weights = tmp_path / "models" / "teacher" / "00000003" / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[len(content) // 2] ^= 1
    weights.write_bytes(content)
    with pytest.raises(UserError, match="damaged; train teacher in a new folder"):
        trainer(tmp_path, experiment, STUDENT)

"""The channel of states: written before the teacher learns, read from strictly earlier samples, with and
without the logit.
"""

import numpy as np
import pytest
import torch

from recdistill.app.run import run_pipeline
from recdistill.checkpoint.store import Checkpoints
from recdistill.config.load import load_text
from recdistill.data.store.sample_store import SampleStore
from recdistill.errors import UserError
from recdistill.runs.folder import RunFolder
from recdistill.runs.jobs import jobs_of
from recdistill.signals.columns import STATE
from recdistill.tables.delta.fixed_bytes import from_bytes
from recdistill.tables.predictions import PredictionLog
from recdistill.train import build
from tests.support.runs import finish, same_bits, tiny, trainer

CONFIG = """
name: states
data: {reader: simulator, options: {rows: 600, users: 20, items: 40, days: 0.5}}
teacher: {kind: pooled-mlp, width: 4, history: 5, batch: 50, options: {hidden: [8]}}
teacher_hidden: {width: 8, bits: 4, learn_rows: 300}
students:
  plain: &one {kind: pooled-mlp, width: 4, history: 5, batch: 50}
  both: {<<: *one, distill: {teacher_hidden: 4}}
  alone: {<<: *one, distill: {weight: 0.0, teacher_hidden: 4}}
evaluate: {seeds: [0, 1], bootstrap: 20}
checkpoint_rows: 200
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    root = tmp_path_factory.mktemp("states") / "run"
    run_pipeline(load_text(CONFIG), None, root)
    return RunFolder(root)


def made(run: RunFolder, name: str):
    experiment = run.experiment()
    teacher, students = jobs_of(experiment)
    return build.trainer_of(run, experiment, next(job for job in (teacher, *students) if job.name == name))


def test_the_teacher_writes_it_before_it_learns(run):
    fresh = made(run, "teacher")
    first = fresh.learner.predict_only(fresh.builder.build(np.arange(50))).state
    rows = next(iter(PredictionLog.open(run.predictions).of("teacher")))
    _, held = from_bytes(rows[STATE], 4)
    np.testing.assert_array_equal(held[:50], first)


def test_a_student_reads_the_past_alone(run):
    student, store = made(run, "both.distilled.s0"), SampleStore(run.store)
    rows = np.arange(400, 450)
    batch = student.builder.build(rows)
    assert batch.teacher_hidden.shape[1:] == (4, 8) and len(batch.teacher_hidden) == len(batch.history.lengths)
    for row, at in zip(rows, batch.history.of.tolist(), strict=True):
        past = ((store.user == store.user[row]) & (store.time < store.time[row])).sum()
        assert int(batch.teacher_hidden_counts[at]) == min(int(past), 4)


def test_it_adds_nothing_at_first_and_learns_with_and_without_the_logit(run):
    plain, both, alone = (made(run, f"{name}.distilled.s0") for name in ("plain", "both", "alone"))
    rows, keep = np.arange(300, 350), torch.ones(50, dtype=torch.bool)
    said = [each.learner.predict_only(each.builder.build(rows)).logits for each in (plain, both, alone)]
    assert torch.equal(said[0], said[1]) and torch.equal(said[0], said[2])
    for each in (both, alone):
        each.learner.learn(each.builder.build(rows), keep)
        assert each.learner.network.reader.last.weight.abs().max() > 0
    grads = [p.grad.clone() for p in alone.learner.network.main.parameters()]
    batch = made(run, "alone.distilled.s0")
    again = batch.builder.build(rows)
    again.signals.add_(5.0)
    batch.learner.learn(again, keep)
    assert all(torch.equal(one, p.grad) for one, p in zip(grads, batch.learner.network.main.parameters(), strict=True))


def test_the_autoencoder_changes_nothing_of_the_teacher(tmp_path):
    for root, more in ((tmp_path / "with", ["teacher_hidden.width=4"]), (tmp_path / "without", [])):
        finish(root, tiny(*more), "teacher")
    one, other = (
        Checkpoints(RunFolder(tmp_path / name).model("teacher")).latest()[1].tensors for name in ("with", "without")
    )
    assert same_bits({name: value for name, value in one.items() if not name.startswith("hidden_state_codec/")}, other)


def test_a_teacher_with_states_resumes_bit_for_bit(tmp_path):
    config = tiny("teacher_hidden.width=4", "teacher_hidden.learn_rows=300")
    finish(tmp_path / "whole", config, "teacher")
    finish(tmp_path / "cut", config)
    steps = trainer(tmp_path / "cut", config, "teacher").run_to_end()
    while Checkpoints(RunFolder(tmp_path / "cut").model("teacher")).newest() != 0:
        next(steps)
    steps.close()
    list(trainer(tmp_path / "cut", config, "teacher").run_to_end())
    one, other = (
        Checkpoints(RunFolder(tmp_path / name).model("teacher")).latest()[1].tensors for name in ("whole", "cut")
    )
    assert same_bits(one, other)


def test_a_blocks_state_is_written_and_resumed(tmp_path):
    more = ["teacher.kind=hstu", "teacher.options={layers: 3}", "teacher_hidden={width: 4, block: 1}"]
    finish(tmp_path / "first", tiny(*more), "teacher")
    finish(tmp_path / "last", tiny(*more, "teacher_hidden.block=3"), "teacher")
    fresh = trainer(tmp_path / "first", tiny(*more), "teacher")
    assert fresh.learner.network.backbone.block == 1
    rows = [
        next(iter(PredictionLog.open(RunFolder(tmp_path / name).predictions).of("teacher")))
        for name in ("first", "last")
    ]
    assert (rows[0]["logit_click"] == rows[1]["logit_click"]).all()  # which state is recorded changes nothing else
    assert not (rows[0][STATE] == rows[1][STATE]).all()


@pytest.mark.parametrize(
    ("sets", "says"),
    [
        ((), "teacher_hidden.block: a teacher of kind pooled-mlp has no blocks; leave it out"),
        (("teacher.kind=longer",), "teacher_hidden.block is 3; the teacher has blocks 1 to 2"),
    ],
)
def test_a_block_that_there_is_not_is_refused(sets, says):
    with pytest.raises(UserError, match=says):
        build.check_models(tiny("teacher_hidden={width: 4, block: 3}", *sets))


def test_states_that_nobody_writes_are_refused():
    with pytest.raises(
        UserError, match="students.light.distill.teacher_hidden 3: the teacher writes none; set teacher_hidden.width"
    ):
        tiny("students.light.distill.teacher_hidden=3")

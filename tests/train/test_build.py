"""What a student knows of its teacher's sampling it reads in the teacher's commits; nobody repeats it by hand."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from recdistill.config.load import load_text
from recdistill.distill.debias import KeepRates
from recdistill.errors import UserError
from recdistill.models.embeddings.bounded import RowBudget
from recdistill.models.embeddings.budget import bound_tables
from recdistill.models.embeddings.growable import GrowableTable
from recdistill.models.factory import table_modules
from recdistill.runs.jobs import jobs_of, pairs_of
from recdistill.train import build
from tests.support.runs import finish, tiny, trainer

TWINS = """
name: twins
data: {reader: simulator}
students:
  one: &one {width: 4, distill: {weight: 1.0}}
  gated: {<<: *one, distill: {weight: 0.5, gate: {start: teacher-ahead}}}
  single: {<<: *one, distill: {towers: single}}
  wider: {<<: *one, width: 8}
evaluate: {seeds: [3, 4]}
"""
SAMPLED = (
    "data.keep_rates={finish: [1.0, 0.5]}",
    "data.sampling.negative=0.8",
    "teacher.sampling.negative=0.5",
    "teacher.replay=0",
    "teacher.epochs=0",
    "students.light.sampling.negative=0.25",
)
STUDENT = "light.distilled.s0"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a run whose log and teacher were sampled, task by task."""
    root = tmp_path_factory.mktemp("sampled") / "run"
    finish(root, tiny(*SAMPLED), "teacher")
    return root


def test_students_that_differ_only_in_distillation_share_their_raw_models() -> None:
    pairs = pairs_of(load_text(TWINS))
    names = {name: [raw.name for raw, _ in of] for name, of in pairs.items()}
    assert names == {
        "one": ["one.raw.s3", "one.raw.s4"],
        "gated": ["one.raw.s3", "one.raw.s4"],
        "single": ["single.raw.s3", "single.raw.s4"],
        "wider": ["wider.raw.s3", "wider.raw.s4"],
    }
    jobs = [job.name for job in jobs_of(load_text(TWINS))[1]]
    assert len(jobs) == len(set(jobs)) == 2 * (3 + 4)
    assert jobs[:3] == [
        "one.raw.s3",
        "one.distilled.s3",
        "gated.distilled.s3",
    ]  # a seed is whole before the next begins


def test_keep_rates_of_log_and_models_multiply_task_by_task(run: Path) -> None:
    student = trainer(run, tiny(*SAMPLED), STUDENT)
    learner, (click, finish) = student.learner, student.store.labels.T
    missed = (click[finish == 0] == 0).mean()  # of the rows that were not finished: those sampled as negatives
    assert learner.own[0] == KeepRates(1.0, 0.8 * 0.25) and learner.teacher[0] == KeepRates(1.0, 0.8 * 0.5)
    assert learner.own[1].positive == learner.teacher[1].positive == 1.0  # whoever finishes has clicked
    assert learner.own[1].negative == pytest.approx(0.5 * (1 - missed * 0.75))
    assert learner.teacher[1].negative == pytest.approx(0.5 * (1 - missed * 0.5))
    assert learner.log_odds_offset == pytest.approx(
        KeepRates(1.0, 0.25).log_odds_offset
    )  # what is in its logits and not in the log's labels


def test_the_gate_hears_what_is_in_the_logits_and_not_in_the_labels(run: Path) -> None:
    gate = trainer(run, tiny(*SAMPLED, "students.light.distill.gate.start=teacher-ahead"), STUDENT).learner.gate
    assert gate is not None
    assert (gate.own, gate.teacher) == pytest.approx(
        (KeepRates(1.0, 0.25).log_odds_offset, KeepRates(1.0, 0.5).log_odds_offset)
    )


def test_the_teachers_rates_are_those_of_its_commits_whatever_the_file_says_now(run: Path) -> None:
    changed = tiny(*SAMPLED, "teacher.sampling.negative=0.9")
    assert trainer(run, changed, STUDENT).learner.teacher[0] == KeepRates(1.0, 0.8 * 0.5)


def test_a_teacher_that_told_two_rates_is_refused(run: Path) -> None:
    other = trainer(run, tiny(*SAMPLED, "teacher.sampling.negative=0.9"), "teacher")
    columns = ["sample_id", "time", "logit_click", "logit_finish"]
    row = next(other.predictions.of("teacher", columns=columns))[:1]
    other.predictions.append(
        row, model="teacher", version=9, kind="crossfit", writer="other", sequence=0, metadata=other.metadata
    )
    with pytest.raises(UserError, match="the commits of 'teacher' name 2 keep rates, a student needs one"):
        trainer(run, tiny(*SAMPLED), STUDENT)


@pytest.mark.parametrize(
    "budget",
    [
        None,
        RowBudget(8),
        RowBudget(8, narrow=2),
        RowBudget(8, share="remainder"),
        RowBudget(8, share="quotient-remainder"),
    ],
)
def test_the_numbers_that_were_learned_are_those_of_all_parts_of_a_table(budget: RowBudget | None) -> None:
    network = nn.Sequential(GrowableTable(6, seed=0, name="item", std=0.1))
    if budget is not None:
        bound_tables(network, budget)
    table = table_modules(network)[0]
    for ids in ([0, 5, 7], [0, 30]):
        table(torch.tensor(ids)).sum().backward()
        table.step()
    tensors = {f"table/0/{key}": value for key, value in table.state().items()} | {"network/x": torch.zeros(3)}
    assert build.parameters(tensors) == (3, table.numbers) and table.numbers > 0

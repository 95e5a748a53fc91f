"""What training took: rows with their candidates, and products that grow as they do."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from recdistill.config.models import ModelConfig
from recdistill.data.batch.extras import extras_of
from recdistill.data.store.encoder import field_counts
from recdistill.data.store.sample_store import SampleStore
from recdistill.models.flops import Cost, cost_of
from recdistill.runs.folder import RunFolder
from recdistill.runs.jobs import Job, jobs_of
from recdistill.tables.events import EventLog
from recdistill.train import build
from recdistill.train.costs import rows_per_sample, serving_flops, training_flops
from recdistill.train.memory_check import countable
from recdistill.train.trainer import Totals
from tests.support.runs import finish, ingested, tiny

AT_ONCE = "data.options.delay_minutes=0.0"  # labels are known with their samples
CANDIDATES = ("candidates.count=3", "students.light.distill.candidates=2", "students.light.distill.weight=1")


def jobs(*assignments: str) -> tuple[Job, Job, Job]:
    """Return the teacher, the raw and the distilled student."""
    teacher, students = jobs_of(tiny(*assignments))
    raw, distilled = sorted(students, key=lambda job: job.uses_teacher)
    return teacher, raw, distilled


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return ingested(tmp_path_factory.mktemp("costs") / "run", tiny(AT_ONCE, *CANDIDATES))


def cost(folder: RunFolder, config: ModelConfig, samples: int = 1) -> Cost:
    """Return what a model's full history with some samples costs on the folder's log."""
    schema = EventLog.open(folder.tables / "events").schema
    sizes = *field_counts(schema), SampleStore(folder.store).actions, extras_of(schema)
    return cost_of(countable(config, *sizes), config.history, samples)


def test_a_sample_with_two_candidates_is_three_rows() -> None:
    assert [rows_per_sample(job) for job in jobs(*CANDIDATES)] == [1, 1, 3]
    assert [rows_per_sample(job) for job in jobs()] == [1, 1, 1]


def test_products_are_those_of_every_row_learned_and_of_every_candidate_scored(folder: RunFolder) -> None:
    experiment, totals = tiny(*CANDIDATES), Totals(rows=400, learned=1200)
    teacher, raw, distilled = jobs(*CANDIDATES)
    one, three = cost(folder, raw.config), cost(folder, raw.config, 3)
    assert training_flops(folder, experiment, raw, totals) == 1200 * one.step_flops
    assert training_flops(folder, experiment, distilled, totals) == 1200 * three.step_flops
    assert training_flops(folder, experiment, teacher, totals) == 1200 * one.step_flops + 400 * three.forward_flops


def test_a_stale_teacher_predicts_each_row_apart_from_its_steps(folder: RunFolder) -> None:
    stale = tiny("teacher.stale.steps=2", "teacher.replay=0", "teacher.epochs=0")
    teacher, _ = jobs_of(stale)
    one = cost(folder, teacher.config)
    found = training_flops(folder, stale, teacher, Totals(rows=400, learned=300))
    assert found == 300 * one.step_flops + 400 * one.forward_flops


PRUNED = "students.light.prune={from: {width: 31}, start: 0.2, end: 0.8}"
ALTERNATING = "students.light.alternate={to: {width: 2}, every: 2, shrunken: 1}"


@pytest.mark.parametrize(("plan", "widths"), [(PRUNED, (31, 31, 12, 5, 4)), (ALTERNATING, (2, 4, 2, 4, 4))])
def test_every_block_is_counted_at_its_size(folder: RunFolder, plan: str, widths: tuple[int, ...]) -> None:
    experiment, totals = tiny("checkpoint_rows=90", *CANDIDATES, plan), Totals(rows=400, learned=400)
    _, raw, distilled = jobs("checkpoint_rows=90", *CANDIDATES, plan)
    for job, samples in ((raw, 1), (distilled, 3)):
        each = [cost(folder, job.config.model_copy(update={"width": width}), samples).step_flops for width in widths]
        wanted = sum(rows * flops for rows, flops in zip((90, 90, 90, 90, 40), each, strict=True))
        assert training_flops(folder, experiment, job, totals) == pytest.approx(wanted, rel=1e-9)


def test_a_network_of_the_users_own_is_not_counted(folder: RunFolder) -> None:
    _, raw, _ = jobs()
    own = replace(raw, config=raw.config.model_copy(update={"kind": "mine:Net"}))
    assert training_flops(folder, tiny(), own, Totals(rows=1, learned=1)) is None
    assert serving_flops(folder, own) is None


def test_a_trained_model_tells_what_it_took(tmp_path: Path) -> None:
    experiment = tiny()
    finish(tmp_path, experiment, "teacher")
    costs = build.training_costs(RunFolder(tmp_path), experiment, jobs_of(experiment)[0])
    assert costs.rows == 350 * 2 + 400 and costs.steps == 22 and costs.seconds and costs.seconds > 0
    one = cost(RunFolder(tmp_path), jobs()[0].config)  # all is predicted apart, for labels come later
    assert costs.serving_flops == cost(RunFolder(tmp_path), jobs()[0].config, 200).forward_flops
    assert costs.flops == pytest.approx(1100 * one.step_flops + 400 * one.forward_flops)

"""What there is to train: pairs, controls, teachers from several seeds, and whom each learns from."""

from __future__ import annotations

import pytest

from recdistill.errors import UserError
from recdistill.runs.jobs import (
    controls_of,
    jobs_by_name,
    jobs_of,
    pairs_of,
    teacher_names,
    teacher_seeds_of,
    without_compute,
)
from tests.support.runs import tiny

SEEDS = "evaluate.seeds=[3,4,5]"
CANDIDATES = ("candidates.count=4", "students.light.distill.candidates=2", "students.light.replay=1")


def test_a_students_own_kind_teaches_it_from_another_seed() -> None:
    experiment = tiny(SEEDS, "controls=[self]")
    control = controls_of(experiment)["light"]["self"]
    assert [job.name for job in control] == ["light.self.s3", "light.self.s4", "light.self.s5"]
    assert [teacher_names(experiment, job) for job in control] == [["light.raw.s4"], ["light.raw.s5"], ["light.raw.s3"]]
    for job, (_, distilled) in zip(control, pairs_of(experiment)["light"], strict=True):
        assert (job.config, job.distill, job.seed) == (distilled.config, distilled.distill, distilled.seed)


def test_who_teaches_scores_the_candidates_that_are_learned() -> None:
    raw = pairs_of(tiny(SEEDS, "controls=[self]", *CANDIDATES))["light"][0][0]
    assert raw.candidates == 4 and raw.run == pairs_of(tiny(SEEDS, *CANDIDATES))["light"][0][0].run
    assert pairs_of(tiny(SEEDS, "controls=[self]"))["light"][0][0].candidates == 0


def test_the_compute_control_learns_as_many_rows_as_the_distilled_student() -> None:
    experiment = tiny(SEEDS, "controls=[compute]", *CANDIDATES)
    control, distilled = controls_of(experiment)["light"]["compute"][0], pairs_of(experiment)["light"][0][1]
    assert 1 + control.config.replay == (1 + distilled.config.replay) * (1 + 2) == 6
    assert not control.uses_teacher
    assert controls_of(tiny(SEEDS, "controls=[compute]"))["light"] == {}  # as many anyway
    assert without_compute(tiny(SEEDS, "controls=[compute]")) == ["light"]
    assert without_compute(experiment) == without_compute(tiny(SEEDS)) == []


def test_each_seed_of_the_teacher_teaches_its_students() -> None:
    experiment = tiny(SEEDS, "evaluate.teacher_seeds=2")
    assert [(job.name, job.seed) for job in teacher_seeds_of(experiment)] == [("teacher", 0), ("teacher.s1", 1)]
    taught = [teacher_names(experiment, distilled) for _, distilled in pairs_of(experiment)["light"]]
    assert taught == [["teacher"], ["teacher.s1"], ["teacher"]]
    assert list(jobs_by_name(experiment))[:2] == ["teacher", "teacher.s1"]


def test_without_controls_and_further_seeds_a_run_is_what_it_was() -> None:
    teacher, students = jobs_of(tiny(SEEDS))
    assert [job.name for job in students] == [f"light.{v}.s{s}" for s in (3, 4, 5) for v in ("raw", "distilled")]
    assert teacher.taught_by is None and all(job.taught_by is None for job in students)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        (("controls=[self]",), "give at least 2 seeds"),
        ((SEEDS, "controls=[self,self]"), "each may stand once"),
        (
            (SEEDS, "controls=[self]", "students.light.distill.signals=crossfit"),
            "cross-fitted signals or hidden states",
        ),
        (("evaluate.teacher_seeds=2",), "give as many seeds"),
        (
            (SEEDS, "evaluate.teacher_seeds=2", "students.light.distill.signals=crossfit"),
            "come from the folds of one teacher",
        ),
    ],
)
def test_what_cannot_be_trained_is_refused(settings: tuple[str, ...], says: str) -> None:
    with pytest.raises(UserError, match=says):
        tiny(*settings)

"""What there is to train: a job per model, by name, and which teachers each of them learns from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from recdistill.config.experiment import Experiment
from recdistill.config.models import DistillConfig, ModelConfig, StudentConfig
from recdistill.runs.folder import fingerprint
from recdistill.runs.names import TEACHER, ModelName

__all__ = ["Job", "folds_of_teacher", "jobs_by_name", "teacher_names", "jobs_of", "pairs_of", "teachers_of"]


@dataclass(frozen=True)
class Job:
    """One model to train. `distill` is None for teachers and has weight 0 for raw students; fold: which one
    it is to score.
    """

    name: str
    config: ModelConfig
    distill: DistillConfig | None
    seed: int
    block_rows: int
    fold: int | None = None

    @property
    def uses_teacher(self) -> bool:
        """Return whether the model learns from a teacher."""
        return self.distill is not None and self.distill.uses_teacher

    @property
    def run(self) -> str:
        """Return the hash of the job's configuration; not of its device, for a run may go on elsewhere."""
        distill = self.distill.model_dump(mode="json") if self.distill else None
        return fingerprint(self.config.model_dump(mode="json", exclude={"device"}), distill, self.seed)

    @property
    def writer(self) -> str:
        """Return the job's name as a writer of predictions."""
        return f"{self.name}@{self.run}"


def _student(name: str, variant: Literal["raw", "distilled"], seed: int) -> str:
    return str(ModelName("student", name, variant, seed))


def pairs_of(experiment: Experiment) -> dict[str, list[tuple[Job, Job]]]:
    """Return per student, seed by seed, its (raw, distilled) jobs, equal but for the weight.

    Students that differ only in how they are distilled have their raw jobs in common, under the name of the first.
    """
    trained: dict[str, Job] = {}

    def raw(name: str, config: StudentConfig, seed: int) -> Job:
        alone = DistillConfig(weight=0.0, towers=config.distill.towers)
        config = config.model_copy(update={"distill": alone})
        job = Job(_student(name, "raw", seed), config, alone, seed, experiment.checkpoint_rows)
        return trained.setdefault(fingerprint(config.model_dump(mode="json"), seed), job)

    def distilled(name: str, config: StudentConfig, seed: int) -> Job:
        return Job(_student(name, "distilled", seed), config, config.distill, seed, experiment.checkpoint_rows)

    return {
        name: [(raw(name, config, seed), distilled(name, config, seed)) for seed in experiment.evaluate.seeds]
        for name, config in experiment.students.items()
    }


def jobs_of(experiment: Experiment) -> tuple[Job, list[Job]]:
    """Return (the teacher's job, the students', seed by seed)."""
    teacher = Job(TEACHER, experiment.teacher, None, 0, experiment.checkpoint_rows)
    by_seed = zip(*pairs_of(experiment).values(), strict=True)
    students = {job.name: job for pairs in by_seed for pair in pairs for job in pair}
    return teacher, list(students.values())


def teachers_of(experiment: Experiment) -> list[Job]:
    """Return the jobs of the further teachers."""
    return [
        Job(str(ModelName("teacher", name)), config, None, 0, experiment.checkpoint_rows)
        for name, config in experiment.teachers.items()
    ]


def jobs_by_name(experiment: Experiment) -> dict[str, Job]:
    """Return the jobs of all models but folds, by name: the teacher, the further ones, the students seed by seed."""
    teacher, students = jobs_of(experiment)
    return {job.name: job for job in (teacher, *teachers_of(experiment), *students)}


def teacher_names(experiment: Experiment, job: Job) -> list[str]:
    """Return the names of the models that a job learns from: teachers, or other students' distilled models of its
    own seed.
    """
    if job.distill is None or not job.uses_teacher:
        return []
    known = {name: str(ModelName("teacher", name)) for name in experiment.teachers} | {TEACHER: TEACHER}
    return [known.get(name, _student(name, "distilled", job.seed)) for name in job.distill.teachers]


def folds_of_teacher(experiment: Experiment) -> list[Job]:
    """Return the jobs of the teachers that cross-fitted signals come from, none where no student uses them."""
    count = experiment.crossfit.folds if experiment.crossfits else 0
    rows = experiment.checkpoint_rows
    return [Job(str(ModelName("fold", number=k)), experiment.teacher, None, 0, rows, k) for k in range(count)]

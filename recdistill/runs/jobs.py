"""What there is to train: a job per model, by name, and which teachers each of them learns from."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from recdistill.config.experiment import ControlName, Experiment
from recdistill.config.models import DistillConfig, ModelConfig, StudentConfig, TeacherConfig
from recdistill.runs.folder import fingerprint
from recdistill.runs.names import TEACHER, ModelName

__all__ = [
    "WHERE",
    "Job",
    "awaited",
    "controls_of",
    "enlarged_by_name",
    "every_job",
    "folds_of_teacher",
    "jobs_by_name",
    "jobs_of",
    "pairs_of",
    "teacher_names",
    "teacher_seeds_of",
    "teachers_of",
    "without_compute",
]

WHERE = ("device", "tables", "embeddings")  # keys of a model that say where it computes, not what


@dataclass(frozen=True)
class Job:
    """One model to train. `distill` is None for teachers and has weight 0 for raw students; fold: which one it is to
    score. taught_by: the models that it learns from, None where `distill` names them; candidates: how many of each
    sample it scores.
    """

    name: str
    config: ModelConfig
    distill: DistillConfig | None
    seed: int
    block_rows: int
    fold: int | None = None
    taught_by: tuple[str, ...] | None = None
    candidates: int = 0

    @property
    def uses_teacher(self) -> bool:
        """Return whether the model learns from a teacher."""
        return self.distill is not None and self.distill.uses_teacher

    @property
    def run(self) -> str:
        """Return the hash of the job's configuration; not of where it computes, and has its rows by whose kernels, for
        a run may go on elsewhere.
        """
        distill = self.distill.model_dump(mode="json") if self.distill else None
        more = [] if self.taught_by is None else [list(self.taught_by)]
        config = self.config.model_dump(mode="json", exclude={*WHERE})
        return fingerprint(config, distill, self.seed, *more)

    @property
    def writer(self) -> str:
        """Return the job's name as a writer of predictions."""
        return f"{self.name}@{self.run}"


def _student(name: str, variant: Literal["raw", "distilled", "self", "compute"], seed: int) -> str:
    return str(ModelName("student", name, variant, seed))


def pairs_of(experiment: Experiment) -> dict[str, list[tuple[Job, Job]]]:
    """Return per student, seed by seed, its (raw, distilled) jobs, equal but for the weight.

    Students that differ only in how they are distilled have their raw jobs in common, under the name of the first.
    """
    trained: dict[str, Job] = {}

    def raw(name: str, config: StudentConfig, seed: int) -> Job:
        alone = DistillConfig(weight=0.0, towers=config.distill.towers)
        config = config.model_copy(update={"distill": alone})
        name = _student(name, "raw", seed)
        job = Job(name, config, alone, seed, experiment.checkpoint_rows, candidates=_scored_by_raw(experiment))
        return trained.setdefault(fingerprint(config.model_dump(mode="json"), seed), job)

    def distilled(name: str, config: StudentConfig, seed: int) -> Job:
        name = _student(name, "distilled", seed)
        by = _taught_by(experiment, config, seed)
        return Job(name, config, config.distill, seed, experiment.checkpoint_rows, taught_by=by)

    return {
        name: [(raw(name, config, seed), distilled(name, config, seed)) for seed in experiment.evaluate.seeds]
        for name, config in experiment.students.items()
    }


def _scored_by_raw(experiment: Experiment) -> int:
    """Return how many candidates raw students score: those that teach a student of their own kind."""
    asked = "self" in experiment.controls and any(one.distill.candidates for one in experiment.students.values())
    return experiment.candidates.count if asked else 0


def _taught_by(experiment: Experiment, config: StudentConfig, seed: int) -> tuple[str, ...] | None:
    """Return the teachers of a seed's distilled student where the teacher was trained from several seeds."""
    count = experiment.evaluate.teacher_seeds
    if count == 1 or not config.distill.uses_teacher:
        return None
    known = _known_teachers(experiment)
    own = TEACHER if (number := experiment.evaluate.seeds.index(seed) % count) == 0 else str(_of_seed(number))
    known[TEACHER] = own
    return tuple(known.get(name, _student(name, "distilled", seed)) for name in config.distill.teachers)


def _of_seed(number: int) -> ModelName:
    return ModelName("seed", number=number)


def controls_of(experiment: Experiment) -> dict[str, dict[ControlName, list[Job]]]:
    """Return per student the jobs of its controls, seed by seed as its pairs are.

    self: the student distilled by the raw student of the next seed, so by a teacher of its own configuration
    (born-again networks, 1805.04770). compute: the raw student, with `replay` raised until it learns as many rows as
    the distilled one, whose every sample comes with `candidates` rows more; none where it learns as many anyway.
    """
    pairs, seeds = pairs_of(experiment), experiment.evaluate.seeds
    found: dict[str, dict[ControlName, list[Job]]] = {}
    for name, config in experiment.students.items():
        raw = [one for one, _ in pairs[name]]
        found[name] = {}
        if "self" in experiment.controls and config.distill.uses_teacher:
            found[name]["self"] = [
                replace(distilled, name=_student(name, "self", seed), taught_by=(raw[(at + 1) % len(raw)].name,))
                for at, (seed, (_, distilled)) in enumerate(zip(seeds, pairs[name], strict=True))
            ]
        if "compute" in experiment.controls and config.distill.candidates:
            more = {"replay": (1 + config.replay) * (1 + config.distill.candidates) - 1}
            found[name]["compute"] = [
                replace(one, name=_student(name, "compute", seed), config=one.config.model_copy(update=more))
                for seed, one in zip(seeds, raw, strict=True)
            ]
    return found


def without_compute(experiment: Experiment) -> list[str]:
    """Return the students for which the control compute was asked and is not needed."""
    asked = "compute" in experiment.controls
    return [name for name, kinds in controls_of(experiment).items() if asked and "compute" not in kinds]


def _teacher(experiment: Experiment, name: str, config: TeacherConfig) -> Job:
    """Return the job of a teacher, which scores candidates too."""
    return Job(name, config, None, 0, experiment.checkpoint_rows, candidates=experiment.candidates.count)


def jobs_of(experiment: Experiment) -> tuple[Job, list[Job]]:
    """Return (the teacher's job, the students', seed by seed, their controls last)."""
    by_seed = zip(*pairs_of(experiment).values(), strict=True)
    students = {job.name: job for pairs in by_seed for pair in pairs for job in pair}
    controls = [job for kinds in controls_of(experiment).values() for jobs in kinds.values() for job in jobs]
    return _teacher(experiment, TEACHER, experiment.teacher), [*students.values(), *controls]


def teacher_seeds_of(experiment: Experiment) -> list[Job]:
    """Return the jobs of the teacher from every seed, the first of which is `teacher`."""
    first, count = _teacher(experiment, TEACHER, experiment.teacher), experiment.evaluate.teacher_seeds
    return [first, *(replace(first, name=str(_of_seed(number)), seed=number) for number in range(1, count))]


def teachers_of(experiment: Experiment) -> list[Job]:
    """Return the jobs of the further teachers, and of the first one from further seeds."""
    further = [_teacher(experiment, str(ModelName("teacher", name)), one) for name, one in experiment.teachers.items()]
    return [*teacher_seeds_of(experiment)[1:], *further]


def jobs_by_name(experiment: Experiment) -> dict[str, Job]:
    """Return the jobs of all models but folds, by name: the teacher, the further ones, the students seed by seed."""
    teacher, students = jobs_of(experiment)
    return {job.name: job for job in (teacher, *teachers_of(experiment), *students)}


def every_job(experiment: Experiment) -> dict[str, Job]:
    """Return the jobs of all models, folds too, by name."""
    return jobs_by_name(experiment) | {job.name: job for job in folds_of_teacher(experiment)}


def _known_teachers(experiment: Experiment) -> dict[str, str]:
    """Return the models' names of the teachers that the experiment file names."""
    return {name: str(ModelName("teacher", name)) for name in experiment.teachers} | {TEACHER: TEACHER}


def teacher_names(experiment: Experiment, job: Job) -> list[str]:
    """Return the names of the models that a job learns from: teachers, or other students' distilled models of its
    own seed.
    """
    if job.distill is None or not job.uses_teacher:
        return []
    if job.taught_by is not None:
        return list(job.taught_by)
    known = _known_teachers(experiment)
    return [known.get(name, _student(name, "distilled", job.seed)) for name in job.distill.teachers]


def enlarged_by_name(experiment: Experiment) -> dict[str, Job]:
    """Return, by the name of each model that goes on as a larger one, pruned, the larger one's job: raw goes on as raw,
    distilled as distilled, a control as that control, of the same seed.
    """
    found: dict[str, Job] = {}
    if all(student.pruned_from is None for student in experiment.students.values()):
        return found
    pairs, controls = pairs_of(experiment), controls_of(experiment)
    for name, student in experiment.students.items():
        if student.pruned_from is not None:
            mine, larger = ([*zip(*pairs[one], strict=True)] for one in (name, student.pruned_from.student))
            mine += [tuple(jobs) for jobs in controls[name].values()]
            larger += [tuple(jobs) for jobs in controls[student.pruned_from.student].values()]
            for some, others in zip(mine, larger, strict=True):
                found |= {job.name: other for job, other in zip(some, others, strict=True)}
    return found


def awaited(
    experiment: Experiment, job: Job, folds: list[Job], larger: dict[str, Job], open_: dict[str, Job]
) -> list[str]:
    """Return the models that must be trained before a job, of those that are not yet, `open_`; folds, larger: as of
    `folds_of_teacher` and `enlarged_by_name`.
    """
    crossfit = job.uses_teacher and job.distill is not None and job.distill.signals == "crossfit"
    needed = [*teacher_names(experiment, job), *([fold.name for fold in folds] if crossfit else [])]
    needed += [larger[job.name].name] if job.name in larger else []
    return [name for name in needed if name in open_]


def folds_of_teacher(experiment: Experiment) -> list[Job]:
    """Return the jobs of the teachers that cross-fitted signals come from, none where no student uses them."""
    count = experiment.crossfit.folds if experiment.crossfits else 0
    rows = experiment.checkpoint_rows
    return [Job(str(ModelName("fold", number=k)), experiment.teacher, None, 0, rows, k) for k in range(count)]

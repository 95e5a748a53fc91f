"""What is scored of a run: the teacher and each student's models, paired by seed, with what each of them costs."""

from __future__ import annotations

from collections.abc import Mapping

from recdistill.config.experiment import Experiment
from recdistill.evaluate.model_facts import (
    IMPORTED,
    ModelFacts,
    StudentModels,
    TrainingCosts,
    log_odds_offset_of,
    settings_of,
)
from recdistill.runs.jobs import Job, controls_of, pairs_of, teacher_seeds_of
from recdistill.runs.names import TEACHER

__all__ = ["model_facts"]


def model_facts(
    experiment: Experiment, costs: Mapping[str, TrainingCosts], imported_from: str | None = None
) -> tuple[list[ModelFacts], dict[str, StudentModels]]:
    """Return (the teacher from each of its seeds, each student's models by its name), as `score` takes them.

    costs: by model name, of every model but an imported teacher. imported_from: the file the teacher came from, None
    where the run trained it. KeyError for a model without costs.
    """
    teachers, controls = teacher_seeds_of(experiment), controls_of(experiment)

    def facts(job: Job) -> ModelFacts:
        settings = settings_of(job.config, job.distill)
        return ModelFacts(job.name, job.seed, log_odds_offset_of(job.config), costs[job.name], settings)

    students = {
        name: StudentModels(
            [facts(raw) for raw, _ in pairs],
            [facts(distilled) for _, distilled in pairs],
            experiment.students[name].domain,
            {control: [facts(job) for job in jobs] for control, jobs in controls[name].items()},
        )
        for name, pairs in pairs_of(experiment).items()
    }
    if imported_from is None:
        return [facts(job) for job in teachers], students
    offset = log_odds_offset_of(experiment.teacher)
    return [ModelFacts(TEACHER, teachers[0].seed, offset, IMPORTED, {"imported": imported_from})], students

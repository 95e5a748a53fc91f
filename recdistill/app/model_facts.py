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
from recdistill.runs.jobs import Job, jobs_of, pairs_of

__all__ = ["model_facts"]


def model_facts(
    experiment: Experiment, costs: Mapping[str, TrainingCosts], imported_from: str | None = None
) -> tuple[ModelFacts, dict[str, StudentModels]]:
    """Return (the teacher, each student's raw and distilled models by its name), as `score` takes them.

    costs: by model name, of every model but an imported teacher. imported_from: the file the teacher came from, None
    where the run trained it. KeyError for a model without costs.
    """
    teacher, _ = jobs_of(experiment)

    def facts(job: Job) -> ModelFacts:
        settings = settings_of(job.config, job.distill)
        return ModelFacts(job.name, job.seed, log_odds_offset_of(job.config), costs[job.name], settings)

    students = {
        name: StudentModels(
            [facts(raw) for raw, _ in pairs],
            [facts(distilled) for _, distilled in pairs],
            experiment.students[name].domain,
        )
        for name, pairs in pairs_of(experiment).items()
    }
    if imported_from is None:
        return facts(teacher), students
    offset = log_odds_offset_of(teacher.config)
    return ModelFacts(teacher.name, teacher.seed, offset, IMPORTED, {"imported": imported_from}), students

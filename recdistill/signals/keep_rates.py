"""The keep rates under which a model learns: those of the log times those of its own sampling."""

from __future__ import annotations

from recdistill.data.sampling import rates_per_task
from recdistill.distill.debias import KeepRates
from recdistill.runs.jobs import Job
from recdistill.tables.schema import EventSchema
from recdistill.typing import Array

__all__ = ["learned_rates"]


def learned_rates(schema: EventSchema, labels: Array, job: Job) -> dict[str, tuple[float, float]]:
    """Return (k+, k-) per task under which a job learns from a log of `labels` [N, K]: the log's own times
    the job's.
    """
    rates = zip(schema.tasks, rates_per_task(labels, job.config.sampling), strict=True)
    both = {task: KeepRates(*schema.keep_rates.get(task, (1.0, 1.0))) * KeepRates(*of_task) for task, of_task in rates}
    return {task: (kept.positive, kept.negative) for task, kept in both.items()}

"""Whether a log holds what its students' widths are to do as they learn, looked at before anything is trained."""

from __future__ import annotations

from itertools import groupby

from recdistill.compress.plan import changes_width, check_plan, config_at
from recdistill.config.experiment import Experiment
from recdistill.train.memory_check import unallocated
from recdistill.train.schedule import Plan

__all__ = ["check_schedules"]


def check_schedules(experiment: Experiment, rows: int) -> None:
    """Raise UserError for a student whose schedule a log of `rows` samples does not hold, or that cannot be built with
    one of the widths that it has on its way; no weight is allocated.
    """
    for name, config in experiment.students.items():
        if not changes_width(config):
            continue
        key, blocks = f"students.{name}", Plan.of(config, rows, experiment.checkpoint_rows, seed=0).blocks
        check_plan(key, config, blocks)
        for found, _ in groupby(config_at(config, block, blocks) for block in range(blocks)):
            unallocated(f"{key}: on its way to its own widths", found)

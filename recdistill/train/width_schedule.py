"""Whether a student can have the widths that it is to have as it learns, and whether a log holds what they are to do:
looked at before anything is trained; no weight is allocated.
"""

from __future__ import annotations

from itertools import groupby

from torch import nn

from recdistill.compress.importance import unread
from recdistill.compress.plan import changes_width, check_direction, check_plan, config_at, option_of, other_size
from recdistill.compress.transplant import check_alike
from recdistill.config.experiment import Experiment, named_models
from recdistill.config.models import StudentConfig
from recdistill.errors import UserError
from recdistill.models.widths import widths_of
from recdistill.train.memory_check import unallocated
from recdistill.train.pruned_from import check_moment
from recdistill.train.schedule import Plan, check_points
from recdistill.train.sizes import changes_size

__all__ = ["can_change", "check_schedules", "check_widths"]

EVERY = 1000  # blocks, between which widths change by so little that each between two is met


def can_change(student: StudentConfig) -> bool:
    """Return whether a student that is to be pruned, or to alternate, can be by its kind, at any width on its way."""
    try:
        check_widths("student", student, unallocated("student", student))
        _check_way("student", student, EVERY)
    except UserError:
        return False
    return True


def check_widths(name: str, config: StudentConfig, backbone: nn.Module) -> None:
    """Raise UserError where a student cannot have the widths that it is to have meanwhile, or what measures its units
    knows nothing of those that are to go.
    """
    plan, key = config.prune or config.alternate, f"{name}.{'prune' if config.prune else 'alternate'}"
    try:
        check_direction(config)
        check_alike(backbone, other := unallocated(name, other_size(config)))
    except UserError as error:
        raise UserError(f"{key}: {error}") from None
    where, changed = "from" if config.prune else "to", other_size(config)
    for option in ("width", *changed.options):
        value = option_of(changed, option)
        if value != option_of(config, option) and not changes_size(config, option, value):
            raise UserError(f"{key}: {where}.{option}: {value} changes no width of kind {config.kind}; leave it out")
    if config.prune is not None and config.prune.versions is not None:
        _check_way(name, config, 0, config.prune.versions[1])
    own, sizes = widths_of(backbone).sizes, widths_of(other).sizes
    for width in unread(backbone) if plan is not None and plan.importance == "activation" else ():
        if sizes[width] != own[width]:
            raise UserError(f"{key}: importance activation knows nothing of {width}; choose taylor or magnitude")


def check_schedules(experiment: Experiment, rows: int, streams: bool) -> None:
    """Raise UserError for a model whose schedule a log of `rows` samples does not hold, or that cannot be built with
    one of the widths that it has on its way. streams: whether a stream follows the log.
    """
    for name, config in named_models(experiment).items():
        plan = Plan.of(config, rows, experiment.checkpoint_rows, seed=0)
        check_points(name, config, plan)
        if changes_width(config):
            check_plan(name, config, plan.blocks, streams)
            check_moment(experiment, name, config, rows)
            _check_way(name, config, plan.blocks)


def _check_way(key: str, config: StudentConfig, blocks: int, versions: int = 0) -> None:
    for found, _ in groupby(config_at(config, block, blocks) for block in range(blocks + versions)):
        unallocated(f"{key}: on its way to its own widths", found)

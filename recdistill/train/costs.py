"""What training took: rows, steps, seconds, and the floating point operations that they stand for."""

from __future__ import annotations

from functools import lru_cache

from recdistill.compress.plan import changes_width, config_at
from recdistill.config.experiment import Experiment
from recdistill.config.models import ModelConfig, TeacherConfig
from recdistill.data.batch.extras import Extras, extras_of
from recdistill.data.store.encoder import field_counts
from recdistill.data.store.sample_store import SampleStore
from recdistill.models.factory import BACKBONES
from recdistill.models.flops import Cost, cost_of
from recdistill.runs.folder import RunFolder
from recdistill.runs.jobs import Job
from recdistill.tables.events import EventLog
from recdistill.train.memory_check import countable
from recdistill.train.pruned_from import begins_at, larger_of
from recdistill.train.schedule import Plan
from recdistill.train.trainer import Totals

__all__ = ["SERVED", "rows_per_sample", "serving_flops", "training_flops"]

SERVED = 200  # candidates of the request whose products are counted

Sizes = tuple[int, int, int, Extras]  # fields, slots, actions, extras


def rows_per_sample(job: Job) -> int:
    """Return how many rows a job learns per sample: the sample itself, and its candidates."""
    return 1 + (job.distill.candidates if job.uses_teacher and job.distill is not None else 0)


def training_flops(folder: RunFolder, experiment: Experiment, job: Job, totals: Totals) -> float | None:
    """Return the products of all steps of a job, forward and backward, of its candidates' scoring, and of what it
    took over from another model; None for a network of the user's own, whose inputs are not known.

    Of full histories, and as if no two samples shared one: at most what was computed. Lookups are not counted.
    """
    if job.config.kind not in BACKBONES:
        return None
    store, sizes = SampleStore(folder.store), _sizes(folder)
    stale = isinstance(job.config, TeacherConfig) and not job.config.stale.fresh
    apart = stale or (store.label_order is not None and job.fold is None)  # predicted apart from what is learned
    flops = totals.began.get("flops", 0.0)
    for config, share in _configs(experiment, job, len(store)):
        flops += share * totals.learned * _cost(config, sizes, rows_per_sample(job)).step_flops
        flops += share * totals.rows * _cost(config, sizes, 1).forward_flops if apart else 0.0
        flops += share * totals.rows * _cost(config, sizes, job.candidates).forward_flops if job.candidates else 0.0
    return flops


def _configs(experiment: Experiment, job: Job, rows: int) -> list[tuple[ModelConfig, float]]:
    """Return what a job's widths were, each with its share of the training; see `compress/plan.py`. Of one that goes on
    as a larger model, that one's widths until then: `Totals` count its rows too.
    """
    if not changes_width(job.config):
        return [(job.config, 1.0)]
    plan = Plan.of(job.config, rows, job.block_rows, job.seed)
    each = [high - low for low, high in map(plan.span, range(plan.blocks))]
    larger, first = larger_of(experiment, job.config) or job.config, begins_at(job.config, plan)
    trained = (larger if block < first else job.config for block in range(plan.blocks))
    now = (config_at(one, block, plan.blocks) for block, one in enumerate(trained))
    return [(config, size / sum(each)) for config, size in zip(now, each, strict=True)]


def serving_flops(folder: RunFolder, job: Job) -> float | None:
    """Return the products of ranking `SERVED` candidates for one full history; None as for `training_flops`."""
    return float(_cost(job.config, _sizes(folder), SERVED).forward_flops) if job.config.kind in BACKBONES else None


def _sizes(folder: RunFolder) -> Sizes:
    schema = EventLog.open(folder.tables / "events").schema
    return *field_counts(schema), SampleStore(folder.store).actions, extras_of(schema)


def _cost(config: ModelConfig, sizes: Sizes, samples: int) -> Cost:
    return _counted(type(config), config.model_dump_json(), sizes, samples)


@lru_cache(maxsize=256)
def _counted(kind: type[ModelConfig], config: str, sizes: Sizes, samples: int) -> Cost:
    """Return what `samples` samples of one history cost a model; all seeds of a model cost the same."""
    model = kind.model_validate_json(config)
    return cost_of(countable(model, *sizes), model.history, samples)

"""Training jobs: which models a run needs, how one is built, and how several are trained at a time."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import nn

from recdistill.checkpoint.store import Checkpoints
from recdistill.compress.plan import changes_width, check_plan, config_at
from recdistill.compress.resizer import Resizer
from recdistill.config.experiment import Experiment, named_models
from recdistill.config.models import ModelConfig, StudentConfig, TeacherHiddenConfig
from recdistill.data.batch.builder import BatchBuilder
from recdistill.data.batch.candidates import Candidates
from recdistill.data.batch.domain import rows_of_domain
from recdistill.data.batch.extras import extras_of
from recdistill.data.batch.slicer import Slicer
from recdistill.data.store.encoder import field_counts
from recdistill.data.store.sample_store import SampleStore
from recdistill.distill.debias import KeepRates
from recdistill.distill.state_codec import HiddenStateCodec
from recdistill.distributed.ranks import ALONE, Dense, InFull, Ranks, Rows
from recdistill.errors import UserError
from recdistill.evaluate.model_facts import TrainingCosts
from recdistill.models.backbones.sequence import SequenceBackbone
from recdistill.models.embeddings.aged_ids import WAYS
from recdistill.models.embeddings.bounded import RowBudget
from recdistill.models.embeddings.budget import bound_tables
from recdistill.models.embeddings.sharded import spread_tables
from recdistill.models.factory import dense_parameters
from recdistill.models.heads import Towers
from recdistill.models.layers.device import device_of, place
from recdistill.runs.batch_ingest import handed_over
from recdistill.runs.folder import RunFolder
from recdistill.runs.jobs import Job
from recdistill.runs.names import is_first_teacher
from recdistill.signals.folds import crossfit_rows, folds_of
from recdistill.signals.keep_rates import learned_rates
from recdistill.signals.teacher_signals import teacher_signals
from recdistill.tables.events import EventLog
from recdistill.tables.predictions import PredictionLog
from recdistill.tables.schema import EventSchema
from recdistill.train.categories import CategoryColumn
from recdistill.train.costs import rows_per_sample, serving_flops, training_flops
from recdistill.train.crossfit import FoldTrainer
from recdistill.train.donor import check_donor
from recdistill.train.learner import Learner, fixed_weight
from recdistill.train.memory_check import backbone_of, check_device, check_fits, unallocated
from recdistill.train.pretrain import Pretraining, able
from recdistill.train.pruned_from import check_pruned, gone_on_from, pruned_from_of
from recdistill.train.schedule import Plan, check_points
from recdistill.train.sizes import check_meaning
from recdistill.train.start_from import StartFrom, check_start, start_from_of
from recdistill.train.table_home import at_home, check_home
from recdistill.train.trainer import Totals, Trainer
from recdistill.train.warm_start import Make, WarmStart, begun_from, check_parts, warm_start_of
from recdistill.train.width_schedule import check_widths
from recdistill.typing import Array

__all__ = [
    "adapter_rows",
    "began",
    "build_network",
    "check_models",
    "check_names",
    "finished",
    "learner_of",
    "parameters",
    "trainer_of",
    "training_costs",
]


def check_models(experiment: Experiment, trains: bool = True) -> None:
    """Raise UserError for a model that cannot be built as the experiment says; no weight is allocated.

    trains: whether they are about to be trained here; then also for one that this machine's memory does not hold.
    """
    for name, config in named_models(experiment).items():
        backbone = unallocated(name, config)
        if name == "teacher":
            _check_block(backbone, config.kind, experiment.teacher_hidden)
        if changes_width(config) and config.pruned_from is None:
            check_widths(name, config, backbone)
        if isinstance(config, StudentConfig) and config.distill.warm_start:
            _check_warm_start(experiment, name, config, backbone)
        if trains and isinstance(config, StudentConfig) and config.start_from is not None:
            check_start(name, config, backbone)
        if isinstance(config, StudentConfig):
            check_pruned(experiment, name, config, backbone)
        if config.pretrain and not able(backbone):
            raise UserError(f"{name}.pretrain: is for kinds hstu, without transducers, and transformer")
        if not trains:
            continue
        device = check_device(name, config)
        check_home(name, config, device)
        if device.type == "cpu":  # asking a GPU takes a piece of it: who trains there asks
            check_fits(name, dense_parameters(backbone))


def _check_warm_start(experiment: Experiment, name: str, config: StudentConfig, backbone: nn.Module) -> None:
    """Raise UserError where a student's teacher has not what the student is to begin from."""
    named, start, teacher = named_models(experiment), config.distill.warm_start, config.distill.teachers[0]
    key = next(key for key in (teacher, f"teachers.{teacher}", f"students.{teacher}") if key in named)
    if start is not None:
        check_donor(f"{name}.distill.warm_start", key, named[key])
        check_parts(name, backbone, key, unallocated(key, named[key]), start.parts)
        if "network" in start.parts:
            check_meaning(f"{name}.distill.warm_start.parts: network", named[key], config)


def _category_of(name: str, config: ModelConfig, schema: EventSchema, store: SampleStore) -> CategoryColumn | None:
    column = config.pretrain.category if config.pretrain else None
    return None if column is None else CategoryColumn.of(column, schema, store, f"{name}.pretrain.category")


def _check_block(backbone: nn.Module, kind: str, hidden: TeacherHiddenConfig) -> None:
    """Raise UserError where hidden states are to be those of a block that the teacher does not have."""
    if hidden.block is None:
        return
    depth = backbone.depth if isinstance(backbone, SequenceBackbone) else 0
    if not depth:
        raise UserError(f"teacher_hidden.block: a teacher of kind {kind} has no blocks; leave it out")
    if hidden.block > depth:
        raise UserError(f"teacher_hidden.block is {hidden.block}; the teacher has blocks 1 to {depth}")


def check_names(folder: RunFolder, experiment: Experiment) -> None:
    """Raise UserError for a feature, a value or a task that the experiment names and an ingested log does not have."""
    schema, store = EventLog.open(folder.tables / "events").schema, SampleStore(folder.store)
    Candidates.of(experiment.candidates, schema)
    for name, config in named_models(experiment).items():
        _category_of(name, config, schema, store)
    for student in experiment.students.values():
        Slicer.of(student.distill.gate.by, schema)
        rows_of_domain(store, schema, student.domain)
        fixed_weight(student.distill.weight, schema.tasks)


def build_network(job: Job, schema: EventSchema, actions: int, hidden: int) -> Towers:
    """Return the job's network; raw and distilled of one seed start from equal weights. hidden: width of
    the teacher's recorded hidden state, if any.
    """
    torch.manual_seed(job.seed)
    backbone = backbone_of(job.config, job.seed, *field_counts(schema), actions, extras_of(schema))
    two = job.distill is not None and job.distill.towers != "single"
    adapted = job.uses_teacher and job.distill is not None and job.distill.adapter is not None
    read = hidden if job.uses_teacher and job.distill is not None and job.distill.teacher_hidden else 0
    return Towers(
        backbone,
        len(schema.tasks),
        layout="decoupled" if two else "single",
        adapted=adapted,
        teacher_hidden=read,
        regression=[task in schema.regression for task in schema.tasks],
    )


def _maker(job: Job, schema: EventSchema, actions: int, hidden: int) -> Make:
    """Return what makes networks with the job's towers of other configurations."""

    def make(config: ModelConfig, seed: int) -> Towers:
        return build_network(replace(job, config=config, seed=seed), schema, actions, hidden)

    return make


def learner_of(
    folder: RunFolder,
    job: Job,
    labels: Array,
    actions: int,
    teacher: Sequence[KeepRates] | None,
    hidden: int = 0,
    ranks: Ranks = ALONE,
    sharded: bool = False,
) -> tuple[Learner, dict[str, str]]:
    """Return a job's new learner, and the metadata of its commits: its configuration's hash and the keep rates it
    learns under.

    labels: [N, K], of the log so far, to know what sampling by the first task does to the others. teacher: the keep
    rates per task that are in its signals, None without a teacher. hidden: width of the hidden states that its
    teacher records.
    """
    schema = EventLog.open(folder.tables / "events").schema
    learned = learned_rates(schema, labels, job)
    own = [KeepRates(*learned[task]) for task in schema.tasks]
    slicer = Slicer.of(job.distill.gate.by if job.distill else None, schema)
    device = device_of(job.config.device)
    dense = _sharded(ranks, device) if sharded else InFull(ranks)

    blocks = _plan(job, len(labels)).blocks
    budget = _budget(job, ranks)
    resized = _maker(job, schema, actions, hidden)

    def make() -> Towers:
        network = resized(config_at(job.config, 0, blocks), job.seed)
        if budget is not None:
            bound_tables(network, budget)
        spread_tables(network, ranks)
        if device.type == "cuda" and not sharded:
            check_fits(job.name, dense_parameters(network), device)
        place(network, device)
        ids = _ids(folder) if job.config.tables == "auto" else {}  # of nothing else does the number count
        at_home(job.name, network, job.config, device, ranks, ids)
        return network

    learner = Learner(dense.built(make), job.config, job.distill, own, teacher or own, schema.tasks, slicer, dense)
    if changes_width(job.config):
        learner.resizer = Resizer(job.config, job.seed, blocks, resized, device, learner.network, dense)
    return learner, {"config": job.run, "keep_rates": json.dumps(learned)}


def _budget(job: Job, ranks: Ranks) -> RowBudget | None:
    """Return the bound on a job's rows, None without one; UserError for one that ranks cannot share out."""
    rows, even = job.config.rows, WAYS * ranks.size
    if rows is None:
        return None
    if rows.share == "never" and rows.most // WAYS % ranks.size:
        raise UserError(
            f"{job.name}: rows.most is {rows.most}, which {ranks.size} ranks cannot share out evenly; give a multiple "
            f"of {even}, or other ranks"
        )
    return RowBudget(rows.most, rows.admit, rows.share, rows.narrow)


def _ids(folder: RunFolder) -> dict[str, int]:
    """Return how many ids of each kind the log has; none before there is a store."""
    if not (folder.store / "store.json").exists():
        return {"users": 0, "items": 0, "context": 0}
    store = SampleStore(folder.store)
    return {"users": store.users, "items": store.items, "context": store.contexts}


def _sharded(ranks: Ranks, device: torch.device) -> Dense:
    from recdistill.distributed.fsdp import Sharded  # which takes a third of a second to import

    return Sharded(ranks, device)


def trainer_of(
    folder: RunFolder, experiment: Experiment, job: Job, ranks: Ranks = ALONE, sharded: bool = False
) -> Trainer | FoldTrainer:
    """Return the trainer of a job over the run's store, its signals joined.

    ranks: the processes that train it; sharded: whether each keeps but a share of the dense part.
    """
    store, predictions = SampleStore(folder.store), PredictionLog.open(folder.predictions)
    early, events = crossfit_rows(folder, experiment, len(store)), EventLog.open(folder.tables / "events")
    schema = events.schema
    signals = teacher_signals(folder, experiment, job)
    learner, metadata = learner_of(
        folder, job, store.labels, store.actions, signals.rates, experiment.teacher_hidden.width, ranks, sharded
    )
    if is_first_teacher(job.name) and experiment.teacher_hidden.width:
        learner.hidden_state_codec = _codec_of(learner.network, experiment.teacher_hidden)
    kept = begun_from(experiment, job, len(store)) | gone_on_from(experiment, job, len(store))
    checkpoints = Checkpoints(folder.model(job.name), ranks=ranks, keep=kept)
    if job.fold is not None:
        return FoldTrainer(
            job.fold,
            folds_of(store, early, experiment.crossfit),
            learner,
            store,
            BatchBuilder.of(store, job.config),
            _plan(job, early),
            predictions,
            checkpoints,
            job.writer,
            {**metadata, "folds": experiment.crossfit.model_dump_json()},
        )
    only = rows_of_domain(store, schema, job.config.domain) if isinstance(job.config, StudentConfig) else None
    asked = Candidates.of(experiment.candidates, schema) if job.candidates else None
    read = signals.signals, signals.candidates, signals.past_hidden
    plan = _plan(job, len(store), store)
    made = _maker(job, schema, store.actions, experiment.teacher_hidden.width)
    if isinstance(job.config, StudentConfig):
        check_plan(job.name, job.config, plan.blocks, streams=handed_over(events) is not None)
    check_points(job.name, job.config, plan)
    return Trainer(
        job.name,
        job.run,
        learner,
        store,
        BatchBuilder.of(store, job.config, *read),
        plan,
        predictions,
        checkpoints,
        metadata,
        asked,
        only,
        _pretraining(job, schema, store, made),
        ranks,
        _starts(folder, experiment, job, plan, made),
        pruned_from_of(folder, experiment, job, made),
    )


def _pretraining(job: Job, schema: EventSchema, store: SampleStore, made: Make) -> Pretraining | None:
    if job.config.pretrain is None:
        return None

    def make() -> Towers:
        network = made(job.config, job.seed)
        place(network, device_of(job.config.device))
        return network

    return Pretraining(job.config.pretrain, _category_of(job.name, job.config, schema, store), make)


def _starts(
    folder: RunFolder, experiment: Experiment, job: Job, plan: Plan, made: Make
) -> tuple[StartFrom | WarmStart, ...]:
    found = start_from_of(folder, experiment, job, made), warm_start_of(folder, experiment, job, plan, made)
    return tuple(one for one in found if one is not None)


def _codec_of(network: Towers, hidden: TeacherHiddenConfig) -> HiddenStateCodec:
    """Return a new codec of a teacher's hidden states, which its network records from now on."""
    width = network.output_width
    if hidden.block is not None and isinstance(network.backbone, SequenceBackbone):
        width = network.backbone.record(hidden.block)
    return HiddenStateCodec(width, hidden.width, hidden.bits, hidden.rate, hidden.learn_rows)


def _plan(job: Job, rows: int, store: SampleStore | None = None) -> Plan:
    times, order = (store.time, store.label_order) if store else (None, None)
    return Plan.of(job.config, rows, job.block_rows, job.seed, times, order)


def finished(folder: RunFolder, job: Job, rows: int, ranks: Ranks = ALONE) -> bool:
    """Return whether the job's last block has its checkpoint, undamaged; of several ranks, which share the
    reading, all ask together.
    """
    return Checkpoints(folder.model(job.name), ranks=ranks).newest() == _plan(job, rows).blocks - 1


def parameters(tensors: Mapping[str, Rows]) -> tuple[int, int]:
    """Return (dense parameters, embedding parameters that learned) of a checkpoint's tensors, of which none is read."""
    dense = sum(value.shape.numel() for name, value in tensors.items() if name.startswith("network/"))
    weights = (value for name, value in tensors.items() if name.startswith("table/") and _key(name) == "weight")
    return dense, sum(value.shape.numel() for value in weights)


def _key(name: str) -> str:
    """Return which tensor of a table, or of one of its parts, this is: of table/0/rest.weight, weight."""
    return name.rpartition("/")[2].rpartition(".")[2]


def training_costs(folder: RunFolder, experiment: Experiment, job: Job) -> TrainingCosts:
    """Return what a trained job costs, from its newest checkpoint; UserError when there is none."""
    checkpoints = Checkpoints(folder.model(job.name))
    block = checkpoints.newest()
    if block is None:
        raise UserError(f"{job.name}: not trained yet")
    totals = Totals(**checkpoints.state(block)["totals"])
    dense, sparse = parameters(checkpoints.stored(block))
    speed, coverage = totals.rows / max(totals.seconds, 1e-9), totals.signals / max(totals.first, 1)
    flops, rows = training_flops(folder, experiment, job, totals), totals.learned * rows_per_sample(job)
    served = serving_flops(folder, job)
    return TrainingCosts(dense, sparse, speed, coverage, rows, totals.steps, totals.seconds, flops, served)


def began(folder: RunFolder, job: Job) -> dict[str, float]:
    """Return what a trained model took over from another one, see `Totals`; empty for nothing."""
    checkpoints = Checkpoints(folder.model(job.name))
    block = checkpoints.newest()
    return {} if block is None else Totals(**checkpoints.state(block)["totals"]).began


def adapter_rows(folder: RunFolder, job: Job) -> int | None:
    """Return how many samples a trained student's adapter learned from, None for a model without one."""
    if job.distill is None or job.distill.adapter is None or not job.uses_teacher:
        return None
    checkpoints = Checkpoints(folder.model(job.name))
    block = checkpoints.newest()
    return None if block is None else int(checkpoints.state(block)["learner"]["adapter"]["rows"])

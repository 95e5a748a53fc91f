"""The signals of a student, in the store's order: the record of one teacher or of several, all of it or a share, and
the keep rates that are in it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch

from recdistill.config.experiment import Experiment
from recdistill.config.models import DistillConfig
from recdistill.data.batch.builder import CandidateSignals
from recdistill.data.batch.candidates import Candidates
from recdistill.data.batch.past_states import PastStates
from recdistill.data.batch.slicer import SLICES, Slicer
from recdistill.data.sampling import uniform
from recdistill.data.store.sample_store import SampleStore
from recdistill.distill.debias import KeepRates
from recdistill.distill.ensemble import RecentLosses, combine, mean
from recdistill.distill.state_codec import unpacked
from recdistill.errors import UserError
from recdistill.runs.batch_ingest import workers_of
from recdistill.runs.folder import RunFolder, fingerprint
from recdistill.runs.jobs import Job, teacher_names
from recdistill.runs.names import CROSSFIT, TEACHER, is_first_teacher
from recdistill.signals.columns import CHUNK, join_candidates, join_column, join_teacher_hidden, stored_column
from recdistill.signals.folds import crossfit_rows
from recdistill.tables.events import EventLog
from recdistill.tables.predictions import PredictionLog
from recdistill.typing import Array

__all__ = ["TeacherSignals", "rates_of", "teacher_signals"]

PastHidden = Callable[[Array], tuple[Array, Array]]
SEED = 37  # of the draw of the share that counts
DAY = 86_400_000_000  # us


@dataclass(frozen=True)
class TeacherSignals:
    """signals: float32 [N, K], NaN where there is no signal; rates: the keep rates per task that are in them;
    None for a raw student.
    """

    signals: Array | None
    rates: list[KeepRates] | None
    candidates: CandidateSignals | None
    past_hidden: PastHidden | None


def teacher_signals(folder: RunFolder, experiment: Experiment, job: Job) -> TeacherSignals:
    """Return the signals of a job, joined once and kept in the run's folder.

    Raises UserError for a teacher whose commits do not name the keep rates it learned under.
    """
    names = teacher_names(experiment, job)
    if job.distill is None or not names:
        return TeacherSignals(None, None, None, None)
    store, predictions = SampleStore(folder.store), PredictionLog.open(folder.predictions)
    schema = EventLog.open(folder.tables / "events").schema
    rates = [rates_of(predictions, name, store.tasks) for name in names]
    workers = workers_of(experiment)
    if len(names) == 1:
        first = (CROSSFIT, crossfit_rows(folder, experiment, len(store))) if job.distill.signals == "crossfit" else None
        column = join_column(_place(folder, names, job.distill.signals), store, predictions, names[0], first, workers)
    else:
        slicer = Slicer.of(job.distill.gate.by, schema)
        columns = [
            join_column(_place(folder, [name], "prequential"), store, predictions, name, workers=workers)
            for name in names
        ]
        column = _ensemble(folder, names, columns, job.distill, store, predictions, rates, slicer)
        rates = [[KeepRates()] * len(store.tasks)]
    column = _part(folder, names, job.distill, store, predictions, column)
    candidates, source = None, _source(job, names)
    if job.distill.candidates:
        logits = join_candidates(_place(folder, "candidates", source), store, predictions, source, workers)
        own = rates_of(predictions, source, store.tasks)
        offset = np.array(
            [one.log_odds_offset - other.log_odds_offset for one, other in zip(own, rates[0], strict=True)], np.float32
        )
        drawn = Candidates.of(experiment.candidates, schema)
        candidates = CandidateSignals(drawn, logits[:, : job.distill.candidates], offset)
    hidden = _past_hidden(folder, experiment, job, source, store, predictions)
    return TeacherSignals(column, rates[0], candidates, hidden)


def _source(job: Job, names: Sequence[str]) -> str:
    """Return the one teacher whose candidates and hidden states a job uses: the first of the experiment, from the seed
    that teaches it, or a control's own.
    """
    if job.taught_by is None:
        return TEACHER
    seeds = list(filter(is_first_teacher, names))
    return (seeds or list(names))[0]


def _past_hidden(
    folder: RunFolder, experiment: Experiment, job: Job, source: str, store: SampleStore, predictions: PredictionLog
) -> PastHidden | None:
    """Return what gathers the teacher's hidden states of the last samples before each: float32 [R, count, D]."""
    distill = job.distill
    if distill is None or not distill.teacher_hidden:
        return None
    window = None if distill.teacher_hidden_days is None else int(distill.teacher_hidden_days * DAY)
    place = _place(folder, "teacher_hidden", source)
    codes, present = join_teacher_hidden(place, store, predictions, source, workers_of(experiment))
    states = PastStates.open(place, codes, present, store.time, distill.teacher_hidden, window)
    bits = experiment.teacher_hidden.bits

    def past(rows: Array) -> tuple[Array, Array]:
        packed, counts = states.gather(rows)
        return unpacked(packed, bits), counts

    return past


def _place(folder: RunFolder, *what: object) -> Path:
    return folder.signals / fingerprint(*what)


def _ensemble(
    folder: RunFolder,
    names: Sequence[str],
    columns: Sequence[Array],
    distill: DistillConfig,
    store: SampleStore,
    predictions: PredictionLog,
    rates: list[list[KeepRates]],
    slicer: Slicer,
) -> Array:
    """Return the column of the models' log-odds, each as before its own sampling, combined as
    `distill.ensemble` says.
    """
    offsets = np.array([[of_task.log_odds_offset for of_task in own] for own in rates], np.float32)[:, None]
    settings = [list(names), distill.ensemble, distill.gate.by, distill.gate.window]

    def log_odds(rows: Array | slice) -> Array:
        return np.stack([column[rows] for column in columns]) - offsets

    def slices(rows: Array | slice) -> Array:
        seen = store.history_lengths(rows)
        return slicer.codes(torch.from_numpy(np.array(store.context[rows])), torch.from_numpy(seen)).numpy()

    def fill(column: Array) -> None:
        record, done = RecentLosses(SLICES, len(names), len(store.tasks), distill.gate.window), 0

        def newly_known(low: int, at: int) -> tuple[Array, Array, Array]:
            nonlocal done
            first, done = done, store.known_before(low + at)
            rows, labels = store.entries(first, done)
            return log_odds(rows), labels, slices(rows)

        for low in range(0, len(store), CHUNK):
            part = slice(low, low + CHUNK)
            if distill.ensemble == "mean":
                column[part] = mean(log_odds(part))
            else:
                column[part] = combine(log_odds(part), slices(part), record, partial(newly_known, low))

    pinned = [settings, [len(predictions.lineage(name)) for name in names]]
    return stored_column(_place(folder, settings), "logits", pinned, columns[0].shape, "float32", fill)


def _part(
    folder: RunFolder,
    names: Sequence[str],
    distill: DistillConfig,
    store: SampleStore,
    predictions: PredictionLog,
    whole: Array,
) -> Array:
    """Return the column without the signals that do not count: before `start` of the log, and all but a `share`."""
    if distill.start == 0 and distill.share == 1:
        return whole
    settings = [
        list(names),
        distill.model_dump(mode="json", include={"signals", "ensemble", "start", "share"}),
        distill.gate.by,
        distill.gate.window,
    ]
    first = int(distill.start * len(store))

    def fill(column: Array) -> None:
        for low in range(first, len(store), CHUNK):
            part = slice(low, low + CHUNK)
            keep = uniform(store.sample_id[part], SEED) < distill.share
            column[part] = np.where(keep[:, None], whole[part], np.nan)

    pinned = [settings, [len(predictions.lineage(name)) for name in names]]
    return stored_column(_place(folder, "part", settings), "logits", pinned, whole.shape, "float32", fill)


def rates_of(predictions: PredictionLog, model: str, tasks: Sequence[str]) -> list[KeepRates]:
    """Return the keep rates per task that `model` learned under, as its commits state them; UserError when they
    state none, or several.
    """
    newest = predictions.newest_metadata(model)
    entries = (
        [newest] if newest and "stream" in newest else predictions.lineage(model)
    )  # a stream's commits are many, and alike
    found = {entry["keep_rates"] for entry in entries if "keep_rates" in entry}
    if len(found) != 1:
        raise UserError(
            f"{predictions.path}: the commits of '{model}' name {len(found)} keep rates, a student needs one: "
            f"{sorted(found)}"
        )
    rates = json.loads(found.pop())
    return [KeepRates(*rates[task]) for task in tasks]

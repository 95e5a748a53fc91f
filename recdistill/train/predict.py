"""A trained model's predictions of new rows, with the histories that the run knows of their users."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl
import torch

from recdistill.checkpoint.store import Checkpoints
from recdistill.config.experiment import Experiment
from recdistill.data.batch.builder import BatchBuilder
from recdistill.data.readers.columns import Counts
from recdistill.data.readers.files import RawTable
from recdistill.data.readers.new_rows import columns_of, new_rows
from recdistill.data.readers.rows import notes_of
from recdistill.data.readers.side_tables import side_tables
from recdistill.data.store.encoder import Encoder
from recdistill.data.store.frozen_vectors import FrozenVectors
from recdistill.data.store.given import Given, newest
from recdistill.data.store.history import Events, HistoryStore
from recdistill.data.store.sample_store import SampleStore
from recdistill.data.store.shown import Shown, shown_at
from recdistill.data.store.vocabulary import Vocabulary
from recdistill.errors import UserError
from recdistill.runs.folder import RunFolder
from recdistill.runs.jobs import Job
from recdistill.tables.events import EventLog
from recdistill.tables.schema import EventSchema
from recdistill.train.build import learner_of
from recdistill.train.learner import Learner
from recdistill.train.trained import Trained
from recdistill.typing import Array

__all__ = ["NewSamples", "Predictor", "check_predicts", "newest_of", "restored"]


class _Frozen:
    """A vocabulary to which nothing is added: an id that the run never saw is 0, the padding."""

    def __init__(self, ids: Vocabulary) -> None:
        self.ids = ids

    def __len__(self) -> int:
        return len(self.ids)

    def encode(self, values: pl.Series, grow: bool) -> Array:
        """Return int32 [n]; `grow` is not followed."""
        return self.ids.encode(values, grow=False)


@dataclass(frozen=True)
class NewSamples:
    """The rows of one chunk as a batch builder reads them; histories are the run's. See `SampleSource`."""

    columns: dict[str, Array]
    brought: dict[str, Given]
    store: SampleStore

    def __getattr__(self, name: str) -> Array:
        try:
            return self.columns[name]
        except KeyError:
            raise AttributeError(name) from None

    @property
    def users(self) -> int:
        """Return the size of the vocabulary of users, padding included; likewise the next two."""
        return self.store.users

    @property
    def items(self) -> int:
        """Return the size of the vocabulary of items."""
        return self.store.items

    @property
    def contexts(self) -> int:
        """Return the size of the vocabulary of features."""
        return self.store.contexts

    @property
    def numeric_fields(self) -> list[int]:
        """Return the places of the buckets of numbers among the context fields."""
        return self.store.numeric_fields

    def history(self, rows: Array, length: int) -> Events:
        """Return the newest `length` events of each row's user that were known before the row's time."""
        histories: HistoryStore = self.store.histories
        user, time = self.columns["user"][rows], self.columns["time"][rows]
        end = histories.known_before(user, time)
        return histories.gather(np.maximum(histories.first[user], end - length), end)

    @property
    def sequences(self) -> list[str]:
        """Return the names of the sequences that rows bring."""
        return list(self.brought)

    def given(self, name: str, rows: Array, length: int) -> Events:
        """Return the newest `length` entries of a sequence that `rows` bring."""
        offsets, item, time = self.brought[name]
        return newest(np.stack((offsets[rows], offsets[rows + 1]), 1), length, item, time)

    def item_counts(self, item: Array, time: Array) -> Array:
        """Return int32 [n, 2]; see `SampleStore.item_counts`."""
        return self.store.item_counts(item, time)

    @property
    def vectors(self) -> Mapping[str, FrozenVectors]:
        """Return the log's vectors, by side."""
        return self.store.vectors

    def vector_rows(self, side: str, rows: Array, ids: Array) -> Array:
        """Return int32 [n], the row of each sample's vector: by its own id, which the run may not have seen."""
        return self.columns[f"{side}_vector"][rows]

    def places(self, rows: Array) -> Array:
        """Return the rows; candidates are not drawn here."""
        return rows

    def items_at(self, places: Array) -> Shown:
        """Return what the rows at `places` show."""
        return shown_at(self, places)


class Predictor:
    """A model of an ingested and trained run, with its newest checkpoint or another that is there.

    Raises UserError for a model that is not trained, and for one that reads its teacher's hidden states, which new rows
    do not have.
    """

    def __init__(self, folder: RunFolder, experiment: Experiment, job: Job, found: Trained | None = None) -> None:
        check_predicts(job)
        self.job, self.data = job, experiment.data
        self.counts = Counts()  # of what was left out of the rows that were read
        self.schema: EventSchema = EventLog.open(folder.tables / "events").schema
        self.store = SampleStore(folder.store)
        self.learner = restored(folder, experiment, job, self.store, found)
        users, items, context = (
            _Frozen(Vocabulary.load(folder.store / f"{name}.parquet")) for name in ("users", "items", "context")
        )
        self.encoder = Encoder(self.schema, users, items, context)
        self.sides = side_tables(self.data, self.schema, folder.data() or Path())  # as they are now

    def predict(self, source: RawTable) -> Iterator[pl.DataFrame]:
        """Yield, per chunk of the source and in its order: sample_id as the source has it, and per task logit_TASK
        float32, as the model learned it, and probability_TASK float32, of the log before any down-sampling; of a
        regression value_TASK float64, in the label's unit.
        """
        mapping = columns_of(self.data, self.schema)
        for rows in new_rows(source, mapping, self.schema, self.counts, self.sides, self.data.vectors):
            number = pl.col("sample_id")
            named = pl.coalesce("sample_key", number.cast(pl.String)) if self.schema.sample_key else number
            ids = rows.select(sample_id=named).to_series()
            columns, given = self.encoder.rows(rows)
            columns["counts"] = self.store.counts_of(columns["user"], columns["item"], columns["time"])
            for side, vectors in self.store.vectors.items():
                columns[f"{side}_vector"] = vectors.rows_of(rows[f"{side}_id"])
            yield self._frame(ids, self._logits(NewSamples(columns, given, self.store)))

    def notes(self) -> list[str]:
        """Return what to tell the user of the rows that were predicted."""
        return [*notes_of(self.counts), *(line for side in self.sides for line in side.notes())]

    def _logits(self, samples: NewSamples) -> Array:
        builder = BatchBuilder.of(samples, self.job.config)
        order = np.lexsort((samples.time, samples.user))  # rows of one user and time share a history
        logits = np.zeros((len(order), len(self.schema.tasks)), np.float32)
        for at in range(0, len(order), self.job.config.batch):
            rows = order[at : at + self.job.config.batch]
            logits[rows] = self.learner.predict(builder.build(rows)).numpy()
        return logits

    def _frame(self, ids: pl.Series, logits: Array) -> pl.DataFrame:
        columns: dict[str, object] = {"sample_id": ids}
        for k, task in enumerate(self.schema.tasks):
            own = self.learner.own[min(k, len(self.learner.own) - 1)]
            columns[f"logit_{task}"] = logits[:, k]
            rule = self.schema.rule(task)
            if rule is not None:
                columns[f"value_{task}"] = rule.values(logits[:, k])
                continue
            columns[f"probability_{task}"] = torch.sigmoid(torch.from_numpy(logits[:, k]) - own.log_odds_offset).numpy()
        return pl.DataFrame(columns)


def check_predicts(job: Job) -> None:
    """Raise UserError for a model that reads its teacher's hidden states."""
    if job.distill is not None and job.uses_teacher and job.distill.teacher_hidden:
        raise UserError(f"{job.name}: reads the teacher's hidden states, which new rows do not have; it cannot predict")


def restored(folder: RunFolder, experiment: Experiment, job: Job, store: SampleStore, found: Trained | None) -> Learner:
    """Return the job's learner as of a checkpoint, None: its newest; torch's random state stays as it is."""
    found = found or newest_of(folder, job)
    own = replace(job, config=job.config.model_copy(update={"embeddings": "own"}))  # nothing is moved
    with torch.random.fork_rng(devices=[]):
        width = experiment.teacher_hidden.width
        learner, _ = learner_of(folder, own, store.labels, store.actions, None, width)
        learner.restore(found.learner, found.state["learner"])
    learner.network.eval()
    return learner


def newest_of(folder: RunFolder, job: Job) -> Trained:
    """Return the newest checkpoint of the batch phase, whose ids are those of the run's store."""
    checkpoints = Checkpoints(folder.model(job.name))
    block = checkpoints.newest()
    if block is None:
        raise UserError(f"{job.name}: not trained yet; run: recdistill train {folder.root}")
    return Trained(checkpoints, block, checkpoints.state(block))

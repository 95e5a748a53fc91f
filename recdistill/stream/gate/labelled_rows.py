"""The labels and positions of a teacher's rows, read in step with the teacher, in bounded memory.

Everything here is a function of the tables up to the versions that the teacher itself had read when it predicted, so
that a later reader sees the same.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np
import polars as pl

from recdistill.data.store.id_set import IdMap
from recdistill.distill.debias import KeepRates
from recdistill.stream.progress import IngestProgress, read_progress
from recdistill.tables.delta.files import read_parts
from recdistill.tables.events import EventLog, OutcomeLog
from recdistill.tables.predictions import PredictionLog
from recdistill.tables.schema import EventSchema
from recdistill.typing import Array

__all__ = ["LabelledRows", "Place", "batch_rows", "log_odds_offset_of_commit"]

SLACK = 100_000  # samples behind a teacher's newest that it may still predict, out of order
MAX_SAMPLES = 2_000_000  # in memory


@dataclass(frozen=True)
class Place:
    """A place in the stream: versions of events and outcomes read up to, and the samples from the hand-over
    to there.
    """

    events: int
    position: int = 0
    outcomes: int = -1


@dataclass(frozen=True)
class _Chunk:
    """The samples of a commit in order of id: ids, labels (NaN: unknown), positions; `place` is where it begins."""

    place: Place
    ids: Array
    labels: Array
    positions: Array

    @property
    def end(self) -> int:
        return self.place.position + len(self.ids)


class LabelledRows:
    """The stream's samples around where one teacher is."""

    def __init__(self, events: EventLog, outcomes: OutcomeLog | None, place: Place) -> None:
        self.events, self.outcomes, self.at = events, outcomes, place
        self.task = events.schema.tasks[0]
        self.values = self.task in events.schema.regression  # by which no outcome is known
        self.watermark = 0
        self.furthest = -1  # position of the newest sample that was predicted
        self._chunks: list[_Chunk] = []
        self._known = IdMap(max_merged=SLACK)  # labels by outcomes; a positive stays one

    def place(self) -> Place:
        """Return the place from which reading again gives all that is in memory."""
        return self._chunks[0].place if self._chunks else self.at

    def read(self, version: int) -> None:
        """Read on to this version of the events, and the outcomes to where they were then."""
        if version <= self.at.events:
            return
        for commit in self.events.commits(self.at.events, version):
            progress = read_progress(IngestProgress, commit.metadata) or IngestProgress(watermark=self.watermark)
            rows = self.events.read(commit, ["sample_id", f"label_{self.task}"]) if commit.parts else None
            if rows is not None:
                self._chunks.append(_chunk(self.at, rows, self.values))
            seen = progress.seen.get("outcomes", self.at.outcomes)
            self._read_outcomes(seen)
            self.watermark = max(self.watermark, progress.watermark)
            self.at = Place(
                commit.version, self.at.position + (0 if rows is None else len(rows)), max(seen, self.at.outcomes)
            )
        while self._chunks and self.at.position - self._chunks[0].place.position > MAX_SAMPLES:
            del self._chunks[0]

    def _read_outcomes(self, version: int) -> None:
        if self.outcomes is None or version <= self.at.outcomes:
            return
        for commit in self.outcomes.commits(self.at.outcomes, version):
            rows = self.outcomes.read(commit, ["sample_id", "task", "label"]).filter(pl.col("task") == self.task)
            rows = rows.unique("sample_id", keep="last")  # a late positive after the negative
            self._known.add(rows["sample_id"].to_numpy(), rows["label"].to_numpy(), commit.version)

    def look_up(self, ids: Array) -> tuple[Array, Array]:
        """Return (labels float64 [n] as they came with the samples, NaN where not; positions int64 [n], -1
        for no sample of the stream).
        """
        labels, positions = np.full(len(ids), np.nan), np.full(len(ids), -1)
        near = [chunk for chunk in self._chunks if chunk.end > self.furthest + 1]
        for chunk in near + self._chunks[: len(self._chunks) - len(near)]:
            left = np.flatnonzero(positions < 0)
            if not len(left):
                break
            at = np.searchsorted(chunk.ids, ids[left]).clip(max=len(chunk.ids) - 1)
            hit = chunk.ids[at] == ids[left]
            labels[left[hit]], positions[left[hit]] = chunk.labels[at[hit]], chunk.positions[at[hit]]
        self.furthest = max(self.furthest, int(positions.max(initial=-1)))
        while self._chunks and self._chunks[0].end <= self.furthest - SLACK:
            del self._chunks[0]
        return labels, positions

    def settled(self, ids: Array, labels: Array) -> Array:
        """Return float64 [n]: the labels once no outcome is awaited any more; what has none by now is a negative."""
        found = np.where(np.isnan(labels), 0.0, labels)
        for at, known in self._known.find(ids):
            found[at] = np.maximum(found[at], known)
        return found

    def forget(self, place: Place) -> None:
        """Drop the outcomes that no sample after `place` waits for."""
        self._known.forget(min(place.outcomes, self.place().outcomes))


def _chunk(place: Place, rows: pl.DataFrame, values: bool) -> _Chunk:
    """Return the samples of a commit; values: whether their labels are those of a regression, and so no outcomes."""
    ids = rows["sample_id"].to_numpy()
    labels = np.full(len(rows), np.nan) if values else rows[:, 1].fill_null(np.nan).to_numpy().astype(np.float64)
    order = np.argsort(ids, kind="stable")
    return _Chunk(place, ids[order], labels[order], place.position + order)


def log_odds_offset_of_commit(metadata: dict[str, str], schema: EventSchema) -> float:
    """Return what a model's own sampling added to its logits of the first task, beyond the log's: log(k+ / k-) of each.

    metadata: of the model's commit, with its keep rates. The labels that it is judged by were sampled as the log was.
    """
    task = schema.tasks[0]
    logged = KeepRates(*schema.keep_rates.get(task, (1.0, 1.0)))
    own = json.loads(metadata.get("keep_rates", "{}")).get(task)
    return KeepRates(*own).log_odds_offset - logged.log_odds_offset if own else 0.0


def batch_rows(
    predictions: PredictionLog, before: int, model: str, events: EventLog, events_version: int, limit: int
) -> pl.DataFrame:
    """Return the last `limit` rows that `model` had recorded by version `before` of the predictions, with their labels.

    Columns version, logit, label (null: unknown), in order; samples are looked up in `events` at version
    `events_version`. Memory O(limit + a file).
    """
    task = events.schema.tasks[0]
    recorded: list[pl.DataFrame] = []
    types = {
        name: predictions.types[name] for name in ("sample_id", "time", "version", f"logit_{predictions.tasks[0]}")
    }
    for part in reversed([part for part in predictions.parts(before) if part.partition["model"] == model]):
        recorded.insert(0, pl.concat([pl.DataFrame(schema=types), *read_parts(predictions.path, [part], types, None)]))
        if sum(len(rows) for rows in recorded) >= limit:
            break
    rows: pl.DataFrame = (
        pl.concat([pl.DataFrame(schema=types), *recorded])
        .tail(limit)
        .rename({f"logit_{predictions.tasks[0]}": "logit"})
    )
    if not len(rows):
        return rows.select("version", "logit", label=pl.lit(None, pl.Float32))
    ids, times = rows["sample_id"].to_numpy(), rows["time"].to_physical().to_numpy()
    near = [
        part
        for part in events.parts(events_version)
        if part.may_hold(ids.min(), ids.max()) and part.may_hold_times(times.min(), times.max())
    ]
    wanted = {name: events.types[name] for name in ("sample_id", f"label_{task}")}
    found = [pl.DataFrame(schema=wanted)]
    found += [some.join(rows, on="sample_id", how="semi") for some in read_parts(events.path, near, wanted, 65_536)]
    labelled: pl.DataFrame = rows.join(pl.concat(found), on="sample_id", how="left", maintain_order="left")
    known = pl.lit(None, pl.Float32) if task in events.schema.regression else pl.col(f"label_{task}")
    return labelled.select("version", "logit", label=known)

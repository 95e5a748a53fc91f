"""A teacher's record joined to the store: columns in the store's order, NaN where there is none."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from recdistill.config.experiment import Experiment
from recdistill.data.batch.past_states import write_order
from recdistill.data.store.memmap import create_column, open_column, read_json, write_json
from recdistill.data.store.sample_store import SampleStore
from recdistill.signals.recorded import in_places
from recdistill.tables.predictions import PredictionLog
from recdistill.typing import Array
from recdistill.workers.parts import ALONE, Workers

__all__ = [
    "CANDIDATES",
    "CHUNK",
    "STATE",
    "channels_of",
    "join_candidates",
    "join_column",
    "join_teacher_hidden",
    "stored_column",
]

CHUNK = 1 << 17  # rows of a column held in memory at a time
CANDIDATES = "candidates"  # the channel: float16 [count, K] per sample
STATE = "state"  # the channel: the teacher's hidden state, quantised


def channels_of(experiment: Experiment, tasks: Sequence[str]) -> dict[str, int]:
    """Return the bytes per row of what the teacher records besides its logits."""
    count = experiment.candidates.count
    candidates = {CANDIDATES: 2 * count * len(tasks)} if count else {}
    return candidates | ({STATE: experiment.teacher_hidden.size} if experiment.teacher_hidden.width else {})


def join_column(
    folder: Path,
    store: SampleStore,
    predictions: PredictionLog,
    model: str,
    first: tuple[str, int] | None = None,
    workers: Workers = ALONE,
) -> Array:
    """Return the read-only column float32 [N, K] of all that `model` has recorded, joined by sample id.

    first: another model, and how many of the store's first rows take it in place of `model`. Memory O(batch):
    predictions stream by and each lands at its sample's position. The column is kept in `folder` and joined again only
    when they have recorded more; what others record meanwhile leaves it alone, so that students may read it side by
    side while they write to the same table. workers: who looks the samples up.
    """
    early, rows = first or ("", 0)
    sources = [(model, rows, len(store)), *([(early, 0, rows)] if rows else [])]
    pinned = [[name, low, high, len(predictions.lineage(name))] for name, low, high in sources]
    names = tuple(f"logit_{task}" for task in store.tasks)

    def fill(column: Array) -> None:
        for name, low, high in sources:
            for at, logits in in_places(store, predictions, name, names, workers=workers):
                mine = (at >= low) & (at < high)
                column[at[mine]] = logits[mine]

    return stored_column(folder, "logits", pinned, (len(store), len(store.tasks)), "float32", fill)


def join_candidates(
    folder: Path, store: SampleStore, predictions: PredictionLog, model: str, workers: Workers = ALONE
) -> Array:
    """Return the read-only column float16 [N, count, K] of the logits of `model` for the samples' candidates;
    kept as `join_column`'s.
    """
    width, tasks = predictions.channels[CANDIDATES], len(store.tasks)
    pinned = [model, len(predictions.lineage(model))]

    def fill(column: Array) -> None:
        for at, held in in_places(store, predictions, model, (CANDIDATES,), width, workers):
            column[at[at >= 0]] = held.view(np.float16).reshape(len(at), -1, tasks)[at >= 0]

    return stored_column(folder, CANDIDATES, pinned, (len(store), width // 2 // tasks, tasks), "float16", fill)


def join_teacher_hidden(
    folder: Path, store: SampleStore, predictions: PredictionLog, model: str, workers: Workers = ALONE
) -> tuple[Array, Array]:
    """Return (uint8 [N, bytes] hidden states of `model`, bool [N] where there is one), kept as `join_column`'s,
    and the order for `PastStates`.
    """
    width, pinned = predictions.channels[STATE], [model, len(predictions.lineage(model))]

    def fill(column: Array) -> None:
        for at, held in in_places(store, predictions, model, (STATE,), width, workers):
            column[at[at >= 0]] = np.concatenate((held, np.ones((len(held), 1), np.uint8)), 1)[at >= 0]
        write_order(folder, store)

    column = stored_column(folder, STATE, pinned, (len(store), width + 1), "uint8", fill)
    return column[:, :-1], column[:, -1].astype(bool)


def stored_column(
    folder: Path, name: str, pinned: object, shape: tuple[int, ...], dtype: str, fill: Callable[[Array], None]
) -> Array:
    """Return the column that `fill` writes into NaN (0 in whole numbers), or the one that is there already
    of what is `pinned`.
    """
    about = folder / "signals.json"
    if about.exists() and read_json(about) == pinned:
        return open_column(folder, name)
    shutil.rmtree(folder, ignore_errors=True)
    column = create_column(folder, name, shape, dtype)
    if np.dtype(dtype).kind == "f":
        column[:] = np.nan
    fill(column)
    write_json(about, pinned)
    return open_column(folder, name)

"""Is what is served what was trained? The graph's logits against the network's, on rows of the log and on odd ones."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnxruntime

from recdistill.data.batch.batch import Batch
from recdistill.data.batch.builder import BatchBuilder
from recdistill.data.store.memmap import open_column
from recdistill.export.batch_inputs import graph_inputs
from recdistill.export.graph import ServedNetwork
from recdistill.train.predict import NewSamples, Predictor
from recdistill.typing import Array

__all__ = ["largest_difference"]

REQUESTS, MANY = 40, 64  # of the log's own users; candidates of the longest


def largest_difference(folder: Path, predictor: Predictor, served: ServedNetwork) -> float:
    """Return the largest |difference| of a logit over requests of real rows: one candidate and many, users with the
    longest history, with one event and with none, ids that were never seen; infinity where one is no number.
    """
    session = onnxruntime.InferenceSession(str(folder / "dense.onnx"), providers=["CPUExecutionProvider"])
    wanted = {one.name for one in session.get_inputs()}
    tables = [open_column(folder, f"table_{number}") for number in sorted({one.table for one in served.look_ups})]
    worst = 0.0
    for batch in _batches(predictor):
        inputs = graph_inputs(batch, served, tables)
        got = session.run(None, {name: inputs[name] for name in wanted})[0]
        difference = np.abs(got - predictor.learner.predict(batch).numpy())
        worst = max(worst, float(difference.max()) if np.isfinite(difference).all() else np.inf)
    return worst


def _batches(predictor: Predictor) -> Iterator[Batch]:
    """Yield batches of one user each, whose candidates are items of other rows."""
    store, job = predictor.store, predictor.job.config
    draw = np.random.default_rng(0)
    rows = draw.integers(0, len(store), REQUESTS)
    lengths = np.diff(store.histories.first)
    odd = [int(np.argmax(lengths)), int(np.argmin(np.where(lengths > 0, lengths, lengths.max() + 1))), 0]
    asks = [(int(store.user[row]), int(store.time[row])) for row in rows]
    asks += [(user, int(store.time[-1]) + 1) for user in odd]
    for number, (user, time) in enumerate(asks):
        count = (1, 2, MANY)[number % 3]
        samples = _samples(predictor, user, time, draw.integers(0, len(store), count), unseen=number % 4 == 3)
        yield BatchBuilder.of(samples, job).build(np.arange(count))


def _samples(predictor: Predictor, user: int, time: int, at: Array, unseen: bool) -> NewSamples:
    """Return samples of a user at a time with the items of the rows `at`; unseen: the first of an unknown item."""
    store, n = predictor.store, len(at)
    shown = store.items_at(at)
    item = np.where((np.arange(n) == 0) & unseen, 0, shown.item)
    columns = {
        "sample_id": np.arange(n),
        "time": np.full(n, time),
        "user": np.full(n, user),
        **shown._asdict(),
        "item": item,
        "weight": np.ones(n, np.float32),
        "labels": np.full((n, store.labels.shape[1]), np.nan, np.float32),
        "draw_offset": np.zeros((n, 0), np.float32),
    }
    columns["counts"] = store.counts_of(columns["user"], item, columns["time"])
    return NewSamples(columns, {}, store)

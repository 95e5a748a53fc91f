"""Is what is served what was trained? The graph's logits against the network's, on rows of the log and on odd ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime

from recdistill.data.batch.batch import Batch
from recdistill.data.batch.builder import BatchBuilder
from recdistill.data.store.given import Given
from recdistill.data.store.sample_store import SampleStore
from recdistill.errors import UserError
from recdistill.export.batch_inputs import graph_inputs
from recdistill.export.graph import ServedNetwork, reason
from recdistill.serve.rows import open_rows
from recdistill.serve.together import together
from recdistill.train.predict import NewSamples, Predictor
from recdistill.typing import Array

__all__ = ["largest_difference"]

REQUESTS, MANY = 40, 64  # of the log's own users; candidates of the longest
PER_CALL = 3  # requests in one call
ALL = 1 << 40  # entries of a sequence: more than there are


def largest_difference(folder: Path, predictor: Predictor, served: ServedNetwork) -> float:
    """Return the largest |difference| of a logit over requests of real rows, alone and several in one call: one
    candidate and many, users with the longest history, with one event and with none, ids that were never seen; infinity
    where one is no number. UserError where onnxruntime does not run the graph.
    """
    tables = {one.table: open_rows(folder, one.table, one.width) for one in served.look_ups}
    run = _runner(folder / "dense.onnx")
    worst, waiting = 0.0, list[tuple[dict[str, Array], Array]]()
    for batch in _batches(predictor):
        inputs, wanted = graph_inputs(batch, served, tables), predictor.learner.predict(batch).numpy()
        waiting = [*waiting[1 - PER_CALL :], (inputs, wanted)]
        worst = max(worst, _difference(run(inputs), wanted))
        several = together([one for one, _ in waiting])
        worst = max(worst, _difference(run(several), np.concatenate([logits for _, logits in waiting])))
    return worst


def _runner(graph: Path) -> Callable[[dict[str, Array]], Array]:
    """Return what scores inputs by a graph."""

    def run(inputs: dict[str, Array]) -> Array:
        try:
            return np.asarray(session.run(None, {name: inputs[name] for name in wanted})[0])
        except Exception as error:  # noqa: BLE001 - onnxruntime's own classes differ between its versions
            raise UserError(f"onnxruntime does not run it: {reason(error)}") from error

    try:
        session = onnxruntime.InferenceSession(str(graph), providers=["CPUExecutionProvider"])
    except Exception as error:  # noqa: BLE001 - likewise
        raise UserError(f"onnxruntime does not take it: {reason(error)}") from error
    wanted = {one.name for one in session.get_inputs()}
    return run


def _difference(found: Array, wanted: Array) -> float:
    difference = np.abs(found - wanted)
    return float(difference.max()) if np.isfinite(difference).all() else np.inf


def _batches(predictor: Predictor) -> Iterator[Batch]:
    """Yield batches of one user each, whose candidates are items of other rows."""
    store, job = predictor.store, predictor.job.config
    draw = np.random.default_rng(0)
    rows = draw.integers(0, len(store), REQUESTS)
    lengths = np.diff(store.histories.first)
    odd = [int(np.argmax(lengths)), int(np.argmin(np.where(lengths > 0, lengths, lengths.max() + 1))), 0]
    asks: list[tuple[int, int, int | None]] = [(int(store.user[row]), int(store.time[row]), int(row)) for row in rows]
    asks += [(user, int(store.time[-1]) + 1, row) for user, row in zip(odd, (_longest(store), 0, None), strict=True)]
    for number, (user, time, row) in enumerate(asks):
        count = (1, 2, MANY)[number % 3]
        samples = _samples(predictor, user, time, draw.integers(0, len(store), count), unseen=number % 4 == 3)
        brought = _brought(predictor, row, time, count)
        yield BatchBuilder.of(replace(samples, brought=brought), job).build(np.arange(count))


def _longest(store: SampleStore) -> int:
    """Return the row that brings the most entries of sequences."""
    lengths = [store.given_lengths(name, slice(None)) for name in store.sequences]
    return int(np.argmax(sum(lengths))) if lengths else 0


def _brought(predictor: Predictor, row: int | None, time: int, count: int) -> dict[str, Given]:
    """Return the sequences that a row brings, none where it is None, of each of `count` samples at a time."""
    found = {}
    for name, timed in predictor.schema.sequences.items():
        events = predictor.store.given(name, np.array([row or 0]), ALL)
        item, moment = (events.item, events.time) if row is not None else (events.item[:0], events.time[:0])
        if not timed:
            moment = np.full(len(item), time)
        found[name] = Given(len(item) * np.arange(count + 1), np.tile(item, count), np.tile(moment, count))
    return found


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
    for side, ids in (("item", item), ("user", columns["user"])):
        if side in store.vectors:
            columns[f"{side}_vector"] = store.vector_index[side][ids]
    columns["counts"] = store.counts_of(columns["user"], item, columns["time"])
    return NewSamples(columns, {}, store)

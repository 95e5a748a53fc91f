"""What was served, as rows of the stream: impressions as events without labels, their outcomes, and what scored them.

    events     a row per impression, in the columns of the log that the model was trained on; features, sequences and
               vectors as they were served, so that nobody looks them up again later
    outcomes   sample_id, task, label, time: what is known of them since
    served     sample_id, time, request, model, version, place (0 is the best), score_TASK

A sample's id is made of the request's id and the item, so that what is sent twice counts once, and whoever knows those
two can say how it ended.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa

from recdistill.defaults import PUBLISHED, SECOND
from recdistill.errors import UserError
from recdistill.serve.artefact import Artefact
from recdistill.serve.brought import brought
from recdistill.serve.request import Id, Request
from recdistill.serve.sample_ids import request_number, sample_of
from recdistill.serve.service import Served
from recdistill.serve.values import id_of, listed
from recdistill.typing import Array

__all__ = [
    "OUTCOMES",
    "best",
    "events_of",
    "events_schema",
    "outcomes_of",
    "packed",
    "served_of",
    "wired",
]

STAMP = pa.timestamp("us", "UTC")
SCALARS = {"int64": pa.int64(), "float32": pa.float32(), "string": pa.large_string(), "time": STAMP}
OUTCOMES = pa.schema([("sample_id", pa.int64()), ("task", pa.large_string()), ("label", pa.float32()), ("time", STAMP)])
Outcome = tuple[str, Id, str, float, float]  # request, item, task, label, seconds since 1970


def events_schema(columns: Mapping[str, str]) -> pa.Schema:
    """Return the Arrow schema of events, given their types as a manifest has them."""
    return pa.schema([(name, _type(kind)) for name, kind in columns.items()])


def _type(kind: str) -> pa.DataType:
    inner = kind.removeprefix("list<").removesuffix(">")
    return SCALARS[kind] if inner == kind else pa.large_list(SCALARS[inner])


def best(scores: Array, shown: int | None) -> Array:
    """Return the places of the candidates that are shown, by the first task's score [C, K], the best first; shown: how
    many, None for all.
    """
    return np.argsort(-scores[:, 0], kind="stable")[:shown]


def events_of(served: Served, artefact: Artefact, shown: int | None) -> pa.Table:
    """Return the impressions of an answer to a user, in the columns of the artefact's log. UserError or ArrowException
    for values that this artefact's log cannot hold: another version read them.
    """
    schema, request, at = artefact.schema, served.request, best(served.scores, shown)
    items, n = _items(served, artefact, at), len(at)
    known: dict[str, Sequence[Any]] = {
        "sample_id": [sample_of(served.request_id, item) for item in items],
        "time": [round(request.time * SECOND)] * n,
        "user_id": [id_of(request.user, schema.user_id, "user")] * n,
        "item_id": items,
        "request_id": [request_number(served.request_id)] * n,
    }
    known |= {f"feature_{name}": _feature(request, name, kind, at) for name, kind in schema.features.items()}
    known |= brought(request, artefact, at)
    columns = artefact.manifest.events
    return pa.table({name: known.get(name, [None] * n) for name in columns}, events_schema(columns))


def _items(served: Served, artefact: Artefact, at: Array) -> list[int | str]:
    items = listed(served.request.items)
    return [id_of(items[k], artefact.schema.item_id, "items") for k in at]


def _feature(request: Request, name: str, kind: str, at: Array) -> list[Any]:
    """Return a feature of the candidates at places `at`, as the table has it."""
    of_value = _reader(name, kind)
    if name in request.item_features:
        values = listed(request.item_features[name])
        return [of_value(values[k]) for k in at]
    return [of_value(request.features.get(name))] * len(at)


def _reader(name: str, kind: str) -> Callable[[Any], Any]:
    inner = kind.removeprefix("list<").removesuffix(">")
    if inner != kind:
        return partial(_list, partial(id_of, kind=inner, what=f"features.{name}"))
    return _float if kind == "float32" else partial(_scalar, partial(id_of, kind=kind, what=f"features.{name}"))


def _float(value: Any) -> float | None:
    return None if value is None or math.isnan(value) else float(value)


def _scalar(read: Callable[[Any], Any], value: Any) -> Any:
    return None if value is None else read(value)


def _list(read: Callable[[Any], Any], value: Any) -> Any:
    return None if value is None else [read(one) for one in value if one is not None and one != ""]


def served_of(served: Served, artefact: Artefact, shown: int | None) -> pa.Table:
    """Return who scored the same impressions, and how."""
    at = best(served.scores, shown)
    n = len(at)
    columns = {
        "sample_id": pa.array(
            [sample_of(served.request_id, item) for item in _items(served, artefact, at)], pa.int64()
        ),
        "time": pa.array([round(served.request.time * SECOND)] * n, STAMP),
        "request": pa.array([served.request_id] * n, pa.large_string()),
        "model": pa.array([served.model] * n, pa.large_string()),
        "version": pa.array([served.version] * n, pa.int32()),
        "place": pa.array(range(n), pa.int32()),
    }
    scores = {f"score_{task}": served.scores[at, k] for k, task in enumerate(artefact.manifest.tasks)}
    return pa.table(columns | {name: pa.array(values, pa.float32()) for name, values in scores.items()})


def outcomes_of(outcomes: Iterable[Outcome], artefact: Artefact) -> pa.Table:
    """Return outcomes as rows. Raises UserError, which names the field, for an item, a task or a label that cannot
    be.
    """
    rows = []
    for request, item, task, label, moment in outcomes:
        if task not in artefact.manifest.tasks:
            raise UserError(f"outcomes.task: one of {', '.join(artefact.manifest.tasks)} was expected")
        if label not in (0, 1):
            raise UserError("outcomes.label: 0 or 1 was expected")
        sample = sample_of(request, id_of(item, artefact.schema.item_id, "outcomes.item"))
        rows.append((sample, task, float(label), round(moment * SECOND)))
    columns = zip(*rows, strict=True) if rows else [()] * len(OUTCOMES)
    return pa.table(
        [pa.array(list(column), field.type) for column, field in zip(columns, OUTCOMES, strict=True)], OUTCOMES
    )


def wired(table: pa.Table) -> bytes:
    """Return rows as a message of the stream: an Arrow IPC stream that says when it left."""
    return packed(table.replace_schema_metadata({PUBLISHED: repr(time.time())}))


def packed(table: pa.Table) -> bytes:
    """Return rows as an Arrow IPC stream: of the same rows the same bytes."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())

"""Bodies of Arrow: a stream (IPC) whose rows are the candidates.

The column `items` holds their ids, every other column a feature of theirs by its name; a null is a missing value. What
is of the user and the moment is JSON in the schema's metadata, under `request`: the keys of `POST /v1/rank` but `items`
and `item_features`. The answer has a float32 column per task, and `model` and `version` in its metadata.

Columns are whole numbers, floats, text, and lists of those; what a few bytes could blow up to gigabytes (compressed
buffers, dictionaries, views, nulls) is refused before it is read.
"""

from __future__ import annotations

import struct
from itertools import chain
from typing import Any

from fastapi import Response

from recdistill.serve import request as ranking
from recdistill.serve.bodies import AboutBody, RankBody, request_of, tree_of
from recdistill.serve.limits import Limits
from recdistill.serve.refusal import RefusedError
from recdistill.serve.values import listed
from recdistill.serve.waiting import Answered

__all__ = ["KIND", "asked", "written"]

KIND = "application/vnd.apache.arrow.stream"
ITEMS, ABOUT = "items", b"request"
HEADER, COMPRESSION = 2, 3  # fields of the tables Message and RecordBatch; Message.fbs


def asked(body: bytes, limits: Limits) -> ranking.Request:
    """Return the request of a body; RefusedError, which names the column, for one that is none."""
    arrow = _pyarrow()
    try:
        schema, columns = _columns(arrow, body)
    except (arrow.ArrowException, OSError, ValueError, struct.error):
        raise RefusedError(422, "body: a whole stream of Arrow IPC was expected") from None
    about = tree_of((schema.metadata or {}).get(ABOUT, b"{}"), AboutBody)
    if ITEMS not in columns:
        raise RefusedError(422, f"{ITEMS}: a column was expected")
    given = {name: getattr(about, name) for name in AboutBody.model_fields}
    items = columns.pop(ITEMS)
    return request_of(RankBody.model_construct(**given, items=items, item_features=columns), limits)


def _pyarrow() -> Any:
    try:
        import pyarrow
        import pyarrow.ipc
    except ModuleNotFoundError:
        raise RefusedError(415, f"{KIND} needs pyarrow on the server; install it: pip install pyarrow") from None
    return pyarrow


def _columns(arrow: Any, body: bytes) -> tuple[Any, dict[str, ranking.Column]]:
    """Return (schema, the columns' values by name)."""
    for message in arrow.ipc.MessageReader.open_stream(body):
        if message.type == "record batch" and _compressed(message.metadata.to_pybytes()):
            raise RefusedError(422, "body: buffers that are not compressed were expected")
    reader = arrow.ipc.open_stream(body)
    names = reader.schema.names
    for field in reader.schema:
        if not _readable(arrow.types, field.type) or names.count(field.name) > 1:
            what = field.name[: ranking.SHOWN]
            raise RefusedError(422, f"{what}: one column of whole numbers, floats, text or lists of them was expected")
    parts: dict[str, list[ranking.Column]] = {name: [] for name in names}
    rows = 0
    for batch in reader:
        rows += batch.num_rows
        if rows > ranking.MOST_CANDIDATES:
            raise RefusedError(422, f"{ITEMS}: give 1 to {ranking.MOST_CANDIDATES:,} candidates; got more")
        batch.validate(full=True)
        for name, values in zip(names, batch.columns, strict=True):
            parts[name].append(_values(arrow.types, values))
    return reader.schema, {name: _joined(of_name) for name, of_name in parts.items()}


def _values(types: Any, values: Any) -> ranking.Column:
    """Return the values of one batch; numbers of 64 bits, none of them null, as the body has them."""
    as_they_are = not values.null_count and (types.is_int64(values.type) or types.is_float64(values.type))
    return values.to_numpy() if as_they_are else values.to_pylist()  # type: ignore[no-any-return]


def _joined(parts: list[ranking.Column]) -> ranking.Column:
    return parts[0] if len(parts) == 1 else [*chain.from_iterable(map(listed, parts))]


def _readable(types: Any, kind: Any) -> bool:
    if types.is_list(kind) or types.is_large_list(kind):
        return _readable(types, kind.value_type) and not types.is_nested(kind.value_type)
    return any(
        is_kind(kind) for is_kind in (types.is_integer, types.is_floating, types.is_string, types.is_large_string)
    )


def _compressed(message: bytes) -> bool:
    """Return whether the buffers of a record batch are compressed, of its flatbuffer; struct.error where it is none."""
    (root,) = struct.unpack_from("<I", message)
    header = _field(message, root, HEADER)
    (batch,) = struct.unpack_from("<I", message, header)
    return _field(message, header + batch, COMPRESSION) > 0


def _field(message: bytes, table: int, number: int) -> int:
    """Return where a field of a flatbuffer's table stands, 0 where it has none."""
    (back,) = struct.unpack_from("<i", message, table)
    (size,) = struct.unpack_from("<H", message, table - back)
    at = 4 + 2 * number
    (offset,) = struct.unpack_from("<H", message, table - back + at) if at < size else (0,)
    return table + offset if offset else 0


def written(found: Answered) -> Response:
    """Return the answer as a stream."""
    arrow, about = _pyarrow(), found.scorer.artefact.manifest
    columns = {task: arrow.array(found.scores[:, k]) for k, task in enumerate(about.tasks)}
    table = arrow.table(columns).replace_schema_metadata({"model": about.model, "version": str(about.version)})
    sink = arrow.BufferOutputStream()
    with arrow.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    return Response(sink.getvalue().to_pybytes(), media_type=KIND)

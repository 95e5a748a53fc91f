"""What goes with an item where it is shown: the parts of a sample of which candidates have those of another one."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from recdistill.typing import Array

__all__ = ["Shown", "ShownColumns", "shown_at"]


class Shown(NamedTuple):
    """Of n samples: item int32 [n], context int32 [n, F], lists int32 [n, M], values float32 [n, W], row_vectors
    float32 [n, V].
    """

    item: Array
    context: Array
    lists: Array
    values: Array
    row_vectors: Array


class ShownColumns(Protocol):
    """The same as columns of a store."""

    item: Array
    context: Array
    lists: Array
    values: Array
    row_vectors: Array


def shown_at(columns: ShownColumns, rows: Array) -> Shown:
    """Return what the samples at `rows` show."""
    return Shown(*(getattr(columns, name)[rows] for name in Shown._fields))

"""Pre-trained vectors of a request: those of its items and its user from the artefact, those of its rows from itself.

Shapes: C candidates, V numbers of a side: the entries of each vector, and after them whether it is missing.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any

import numpy as np

from recdistill.errors import UserError
from recdistill.serve.artefact import Artefact
from recdistill.serve.request import Column, Request
from recdistill.serve.values import known_ids, listed, shown
from recdistill.typing import Array

__all__ = ["VectorReader"]


class VectorReader:
    """Reads the vectors of requests for one artefact."""

    def __init__(self, artefact: Artefact) -> None:
        self.schema, self.known = artefact.schema, artefact.vectors

    def read(self, request: Request) -> dict[str, Array]:
        """Return the graph's inputs: vectors_SIDE float32 [any, V], SIDE_vector int64 [C], which is whose. UserError,
        which names the field, for a vector of another length or with anything but finite numbers.
        """
        n, found = len(request.items), dict[str, Array]()
        for side, (ids, values) in self.known.items():
            asked: Column = request.items
            if side == "user":
                asked = [request.user] if request.user is not None else []
            kind = self.schema.item_id if side == "item" else self.schema.user_id
            rows = (
                known_ids((("items" if side == "item" else side, asked),), kind, ids)
                if len(asked)
                else np.zeros(1, int)
            )
            found |= _inputs(side, values[rows], n)
        if self.schema.row_vectors:
            found |= _inputs("row", self._rows(request), n)
        return found

    def _rows(self, request: Request) -> Array:
        """Return float32 [C, V] of the vectors that the request brings, [1, V] where they are of all candidates."""
        parts = []
        for name, (_, width, scale) in self.schema.row_vectors.items():
            values = request.item_features.get(name)
            parts.append(
                _matrix([request.features.get(name)] if values is None else listed(values), name, width, scale)
            )
        rows = max(map(len, parts))
        return np.hstack([np.broadcast_to(part, (rows, part.shape[1])) for part in parts])


def _inputs(side: str, values: Array, n: int) -> dict[str, Array]:
    which = np.arange(n) if len(values) == n else np.zeros(n, np.int64)
    return {f"vectors_{side}": np.ascontiguousarray(values), f"{side}_vector": which}


def _matrix(values: Sequence[Any], name: str, width: int, scale: float) -> Array:
    """Return float32 [n, width + 1] of a vector per candidate, None where it is missing, scaled as the log's are."""
    found = np.zeros((len(values), width + 1), np.float32)
    given = [at for at, value in enumerate(values) if value is not None]
    found[:, width] = 1
    found[given, width] = 0
    found[given, :width] = _numbers([values[at] for at in given], name, width) * np.float32(scale)
    return found


def _numbers(vectors: Sequence[Any], name: str, width: int) -> Array:
    """Return float32 [n, width]; UserError at the first that is not of `width` finite numbers."""
    if all(isinstance(one, list | tuple) and len(one) == width for one in vectors):
        entries = list(chain.from_iterable(vectors))
        if set(map(type, entries)) <= {int, float}:
            made = _finite(entries)
            if made is not None:
                return made.reshape(-1, width)
    for one in vectors:
        there = isinstance(one, list | tuple) and len(one) == width
        if not there or not set(map(type, one)) <= {int, float} or _finite(one) is None:
            raise UserError(f"features.{name}: a list of {width:,} finite numbers was expected; got {shown(one)}")
    return np.zeros((0, width), np.float32)


def _finite(entries: Sequence[Any]) -> Array | None:
    """Return float32 [n], None where one is not finite as such."""
    with np.errstate(over="ignore"):
        try:
            found = np.array(entries, np.float64).astype(np.float32)
        except OverflowError:
            return None
    return found if np.isfinite(found).all() else None

"""Requests that are scored in one call of the graph: the inputs of each, side by side.

Shapes as in export/graph.py: R users, C candidates, S candidates of the user with the most.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from recdistill.typing import Array

__all__ = ["groups", "together"]

BY_USER = {"row", "slots", "place"}  # made anew for all


def together(requests: Sequence[Mapping[str, Array]]) -> dict[str, Array]:
    """Return the inputs of one call that scores all requests, one after the other.

    Each request's distinct ids stay its own: those of the next one follow, and only the padding is shared. Its vectors
    too, which have none.
    """
    found = {}
    for name in requests[0].keys() - BY_USER:
        parts = [one[name] for one in requests]
        if f"ids_{name}" in requests[0]:
            ids = [len(one[f"ids_{name}"]) - 1 for one in requests]
            parts = [np.where(one > 0, one + start, 0) for one, start in zip(parts, _starts(ids), strict=True)]
        elif name.startswith(("rows_", "ids_")):
            parts = [parts[0][:1], *(one[1:] for one in parts)]
        elif name.endswith("_vector"):
            vectors = [len(one[f"vectors_{name.removesuffix('_vector')}"]) for one in requests]
            parts = [one + start for one, start in zip(parts, _starts(vectors), strict=True)]
        found[name] = np.concatenate(parts)
    return found | groups([len(one["item"]) for one in requests])


def _starts(sizes: Sequence[int]) -> Array:
    """Return int64 [n], where each of parts of these sizes begins among all."""
    return np.cumsum(sizes) - sizes


def groups(sizes: Sequence[int] | Array) -> dict[str, Array]:
    """Return which candidates share a user, int64: row [C], slots [R, S], place [C]; sizes: of each user, in order."""
    if len(sizes) == 1:  # what most calls hold
        own = np.arange(sizes[0])
        return {"row": np.zeros(len(own), np.int64), "slots": own[None], "place": own}
    counts = np.asarray(sizes, np.int64)
    row = np.repeat(np.arange(len(counts)), counts)
    first = np.cumsum(counts) - counts
    step = np.arange(counts.max())
    rank = np.arange(len(row)) - first[row]
    slots = np.where(step < counts[:, None], first[:, None] + step, 0)
    return {"row": row, "slots": slots, "place": row * len(step) + rank}

"""Requests that are scored in one call of the graph: the inputs of each, side by side.

Shapes as in export/graph.py: R users, C candidates, S candidates of the user with the most.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from recdistill.typing import Array

__all__ = ["groups", "together"]

BY_USER = ("row", "slots", "place")  # made anew for all


def together(requests: Sequence[Mapping[str, Array]], look_ups: Sequence[tuple[int, str, int]]) -> dict[str, Array]:
    """Return the inputs of one call that scores all requests, one after the other; look_ups: of the manifest.

    Each request's distinct ids stay its own: those of the next one follow, and only the padding is shared.
    """
    columns = {column: f"rows_{number}" for number, (_, column, _) in enumerate(look_ups)}
    found = {
        name: np.concatenate(_shifted([one[name] for one in requests], [one[rows] for one in requests]))
        for name, rows in columns.items()
    }
    for name in requests[0]:
        if name.startswith("rows_"):
            found[name] = np.concatenate([requests[0][name][:1], *(one[name][1:] for one in requests)])
        elif name not in (*columns, *BY_USER):
            found[name] = np.concatenate([one[name] for one in requests])
    return found | groups([len(one["item"]) for one in requests])


def _shifted(places: list[Array], rows: list[Array]) -> list[Array]:
    """Return each request's places among the rows of all, of places among its own; 0, the padding, stays."""
    first = np.cumsum([0, *(len(one) - 1 for one in rows)])
    return [np.where(one > 0, one + start, 0) for one, start in zip(places, first, strict=False)]


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

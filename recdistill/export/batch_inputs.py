"""A batch as training makes it, as the inputs of a graph: what a server makes of requests, to compare the two."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from recdistill.data.batch.batch import Batch, History
from recdistill.export.graph import ServedNetwork
from recdistill.export.inputs import columns_of
from recdistill.serve.rows import TableRows
from recdistill.serve.together import groups
from recdistill.typing import Array

__all__ = ["graph_inputs"]


def graph_inputs(batch: Batch, served: ServedNetwork, tables: Mapping[int, TableRows]) -> dict[str, Array]:
    """Return the inputs, see inputs.py, of a batch whose samples stand by history; tables: by number,
    [rows, width], all rows of each.
    """
    length, histories = served.shape.length, (batch.history, *batch.sequences)
    sizes, rows = _shared(histories)
    columns = {name: getattr(batch, name) for name in ("item", "user", "context", "lists")}
    inputs = {name: column.inverse.numpy() for name, column in columns.items()}
    inputs |= dict(zip(("history", "ago", "action", "events"), _padded(batch.history, rows[0], length), strict=True))
    for number, (history, of) in enumerate(zip(batch.sequences, rows[1:], strict=True)):
        index, ago, _, events = _padded(history, of, length)
        name = f"sequence_{number}"
        inputs |= {name: index, f"{name}_ago": ago, f"{name}_events": events}
    inputs |= {"numbers": batch.numbers.numpy(), "values": batch.values.numpy(), **groups(sizes)}
    for side, vectors in batch.vectors.items():
        inputs |= {f"vectors_{side}": vectors.values.numpy(), f"{side}_vector": vectors.inverse.numpy()}
    distinct = {name: ids.numpy() for name, ids in columns_of(batch)}
    inputs |= {f"ids_{name}": ids for name, ids in distinct.items()}
    looked_up = enumerate(served.look_ups)
    return inputs | {f"rows_{at}": tables[table][distinct[column]] for at, (table, column, _) in looked_up}


def _shared(histories: Sequence[History]) -> tuple[Array, Array]:
    """Return (how many neighbours share all their histories, int64 [R]; the rows of those in each history
    [histories, R]).
    """
    of = np.stack([history.of.numpy() for history in histories])
    first = np.flatnonzero(np.r_[True, (np.diff(of) != 0).any(0)])
    return np.diff(first, append=of.shape[1]), of[:, first]


def _padded(history: History, rows: Array, length: int) -> tuple[Array, ...]:
    """Return (index, ago, action int64 [R, L], events int64 [R]) of some rows of a history."""
    offsets = history.offsets.numpy()
    start, events = offsets[rows], history.lengths.numpy()[rows]
    step = np.arange(length)
    there = step < events[:, None]
    at = np.where(there, start[:, None] + step, 0)
    parts = (history.index.numpy(), history.ago.numpy(), history.action.numpy())
    return *(np.where(there, one[at] if len(one) else 0, 0) for one in parts), events

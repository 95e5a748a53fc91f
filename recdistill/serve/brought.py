"""What rows of a log bring besides features, as a request brought it: sequences, vectors, and a weight of one.

Columns are those of the events table: sequence_NAME and times_NAME (the history too, where rows bring it), vector_NAME.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from recdistill.defaults import GIVEN_HISTORY
from recdistill.serve.artefact import Artefact
from recdistill.serve.past import Kind, newest
from recdistill.serve.request import Past, Request
from recdistill.serve.values import id_of, listed, microseconds
from recdistill.typing import Array

__all__ = ["brought"]


def brought(request: Request, artefact: Artefact, at: Array) -> dict[str, list[Any]]:
    """Return the columns for the candidates at places `at`. UserError, which names the field, for what cannot be
    read.
    """
    found: dict[str, list[Any]] = {"weight": [1.0] * len(at)}
    for name, kind in _kinds(artefact).items():
        past = request.history if name == GIVEN_HISTORY else request.sequences.get(name)
        items, times = _entries(past or Past(), kind, artefact.schema.item_id, microseconds(request.time, "time"))
        found |= {f"sequence_{name}": [items] * len(at), f"times_{name}": [times] * len(at)}
    return found | {f"vector_{name}": _vectors(request, name, at) for name in artefact.schema.row_vectors}


def _kinds(artefact: Artefact) -> dict[str, Kind]:
    """Return what is expected of each sequence that rows bring, by name."""
    schema = artefact.schema
    kinds = {GIVEN_HISTORY: Kind(GIVEN_HISTORY, schema.timed, len(artefact.manifest.actions))}
    kinds |= {name: Kind(f"sequences.{name}", timed, 0) for name, timed in schema.sequences.items()}
    return {name: kind for name, kind in kinds.items() if f"sequence_{name}" in artefact.manifest.events}


def _entries(past: Past, kind: Kind, item_id: str, now: int) -> tuple[list[int | str], list[int]]:
    """Return (items, times in us) of what counted before `now`, in us, the newest last."""
    events = newest(past, kind, now, len(past.items))
    order = np.argsort(-events.ago, kind="stable")
    order = order[events.ago[order] > 0] if kind.timed else order
    items = listed(events.items)
    return [id_of(items[k], item_id, f"{kind.field}.items") for k in order], (now - events.ago[order]).tolist()


def _vectors(request: Request, name: str, at: Array) -> list[list[float] | None]:
    values = request.item_features.get(name)
    given = [request.features.get(name)] * len(at) if values is None else [listed(values)[k] for k in at]
    return [None if one is None else [float(number) for number in one] for one in given]

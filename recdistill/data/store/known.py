"""What a checkpoint's model knew besides its weights: ids in their order, and how many outcomes each had."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from recdistill.data.store.live_counts import LiveCounts
from recdistill.data.store.live_store import end_of
from recdistill.data.store.outcome_counts import SIDES
from recdistill.data.store.sample_store import VOCABULARIES, SampleStore
from recdistill.data.store.vocabulary import Vocabulary
from recdistill.errors import UserError
from recdistill.typing import Array

__all__ = ["Known", "known_of", "known_then"]

FOREVER = 1 << 62  # us


@dataclass(frozen=True)
class Known:
    """ids: by vocabulary (users, items, context), those with the indices 1, 2, ...; counts: by side (user, item), int32
    [ids + 1, 2], labels and positives among them.
    """

    ids: Mapping[str, list[Any]]
    counts: Mapping[str, Array]

    def rows(self, vocabulary: str) -> int:
        """Return the size of a vocabulary, padding included."""
        return len(self.ids[vocabulary]) + 1


def known_of(store: SampleStore) -> Known:
    """Return what the batch phase's store holds, all of its outcomes counted."""
    sizes = {"user": store.users, "item": store.items}
    counts = {side: store.outcomes[side].before(np.arange(n), np.full(n, FOREVER)) for side, n in sizes.items()}
    return Known({name: _ids(store, name) for name in VOCABULARIES}, counts)


def known_then(base: SampleStore, live: Path, arrays: Mapping[str, Array], state: Mapping[str, Any]) -> Known:
    """Return what the live store in the folder `live` held when it gave (arrays, state); see `LiveStore.state`. Nothing
    is written, so the model may go on meanwhile. Outcomes that had come but did not count yet are left out.

    Raises UserError where the folder lacks what they refer to.
    """
    ids = {name: _ids(base, name) for name in VOCABULARIES}
    for name, known in ids.items():
        more = int(state["ids"][name]) - len(known)
        known += _further(live / f"{name}.jsonl", more)
    counts = {}
    for side in SIDES:
        found = LiveCounts(live / f"{side}_counts", base.outcomes[side], end_of(base))
        own = {key.removeprefix(f"{side}_counts/"): value for key, value in arrays.items()}
        if not found.restore(own):
            raise _gone(live)
        counts[side] = found.released(len(ids[f"{side}s"]) + 1)
    return Known(ids, counts)


def _ids(store: SampleStore, name: str) -> list[Any]:
    ids = Vocabulary.load(store.folder / f"{name}.parquet")
    return ids.ids.to_list() if len(ids) else []


def _further(path: Path, more: int) -> list[Any]:
    """Return the first `more` ids of a file of JSON lines."""
    if not more:
        return []
    try:
        with path.open(encoding="utf-8") as file:
            found = [json.loads(line) for line in islice(file, more)]
    except (FileNotFoundError, ValueError):  # a model that goes back cuts the file, and writes it again
        found = []
    if len(found) < more:
        raise _gone(path.parent)
    return found


def _gone(live: Path) -> UserError:
    return UserError(f"{live}: lacks the ids and counts of this checkpoint, or its model goes back just now; try again")

"""Which samples arrived recently: ids and labels within a bound of event time, so that memory does not grow
with the log.
"""

from __future__ import annotations

import numpy as np
import polars as pl

from recdistill.typing import Array

__all__ = ["Recent", "label_codes"]

BUCKETS = 8  # to the bound; one more than needed is kept at most
CODES = 2**15 - 1


class Recent:
    """Sample ids of the last `span` us of event time, 10 bytes each. Older ones are forgotten by `forget`."""

    def __init__(self, span: int) -> None:
        self._width = max(span // BUCKETS, 1)
        self._span = span
        self._buckets: dict[int, _Runs] = {}

    def __len__(self) -> int:
        return sum(len(ids) for runs in self._buckets.values() for ids, _ in runs.runs)

    def add(self, ids: Array, times: Array, codes: Array) -> None:
        """Add int64 [n] ids of samples at `times` (us) with `codes` of their labels."""
        places = times // self._width
        for place in np.unique(places).tolist():
            mine = places == place
            self._buckets.setdefault(place, _Runs()).add(ids[mine], codes[mine])

    def find(self, ids: Array) -> Array:
        """Return int16 [n]: the code of each id's labels, -1 where it was not seen."""
        found = np.full(len(ids), -1, np.int16)
        for runs in self._buckets.values():
            runs.find(ids, found)
        return found

    def forget(self, watermark: int) -> None:
        """Forget what lies more than the bound before `watermark`."""
        for place in [place for place in self._buckets if (place + 1) * self._width <= watermark - self._span]:
            del self._buckets[place]


class _Runs:
    """Sorted runs that merge like a binary counter: n ids cost O(n log n)."""

    def __init__(self) -> None:
        self.runs: list[tuple[Array, Array]] = []

    def add(self, ids: Array, codes: Array) -> None:
        while self.runs and len(self.runs[-1][0]) <= 2 * len(ids):
            before = self.runs.pop()
            ids, codes = np.concatenate((before[0], ids)), np.concatenate((before[1], codes))
        order = np.argsort(ids, kind="stable")
        self.runs.append((ids[order], codes[order]))

    def find(self, ids: Array, found: Array) -> None:
        for run, codes in self.runs:
            at = np.searchsorted(run, ids).clip(max=len(run) - 1)
            hit = run[at] == ids
            found[hit] = codes[at[hit]]


def label_codes(rows: pl.DataFrame, tasks: tuple[str, ...]) -> Array:
    """Return int16 [n], equal for equal labels: 0, 1 or unknown of every task (beyond nine tasks some share a code)."""
    code = np.zeros(len(rows), np.int64)
    for task in tasks:
        code = (code * 3 + rows[f"label_{task}"].fill_null(2).to_numpy().astype(np.int64)) % CODES
    return code.astype(np.int16)

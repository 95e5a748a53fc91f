"""Which samples arrived recently: ids and labels within a bound of event time, so that memory does not grow
with the log.
"""

from __future__ import annotations

import numpy as np
import polars as pl

from recdistill.data.sampling import mixed
from recdistill.data.store.id_set import IdMap
from recdistill.typing import Array

__all__ = ["Recent", "label_codes"]

BUCKETS = 8  # to the bound; one more than needed is kept at most
CODES = 2**15 - 1


class Recent:
    """Sample ids of the last `span` us of event time, 10 bytes each. Older ones are forgotten by `forget`."""

    def __init__(self, span: int) -> None:
        self._width = max(span // BUCKETS, 1)
        self._span = span
        self._buckets: dict[int, IdMap] = {}

    def __len__(self) -> int:
        return sum(map(len, self._buckets.values()))

    def add(self, ids: Array, times: Array, codes: Array) -> None:
        """Add int64 [n] ids of samples at `times` (us) with `codes` of their labels."""
        places = times // self._width
        for place in np.unique(places).tolist():
            mine = places == place
            self._buckets.setdefault(place, IdMap()).add(ids[mine], codes[mine])

    def find(self, ids: Array) -> Array:
        """Return int16 [n]: the code of each id's labels, -1 where it was not seen."""
        found = np.full(len(ids), -1, np.int16)
        for bucket in self._buckets.values():
            for at, codes in bucket.find(ids):
                found[at] = codes
        return found

    def forget(self, watermark: int) -> None:
        """Forget what lies more than the bound before `watermark`."""
        for place in [place for place in self._buckets if (place + 1) * self._width <= watermark - self._span]:
            del self._buckets[place]


def label_codes(rows: pl.DataFrame, tasks: tuple[str, ...]) -> Array:
    """Return int16 [n], equal for equal labels of every task: 0, 1, unknown, or any other number.

    Beyond nine tasks some share a code, and of other numbers one in CODES.
    """
    code = np.zeros(len(rows), np.int64)
    for task in tasks:
        label = rows[f"label_{task}"].fill_null(2).to_numpy().astype(np.float32)
        other = mixed(label.view(np.uint32)) % np.uint64(CODES)
        code = (code * 3 + np.where(np.isin(label, (0, 1, 2)), label, other).astype(np.int64)) % CODES
    return code.astype(np.int16)

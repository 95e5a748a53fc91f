"""What is known of one teacher's versions: judged windows, the good ones to compare with, the bad versions.

The gate folds its verdicts into this as it finds them, and a gate that starts again folds them from the table: the same
calls in the same order, so the same state.
"""

from __future__ import annotations

import json
from collections import deque
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from recdistill.config.stream import HealthConfig
from recdistill.stream.gate.health import FIELDS, Window, judge
from recdistill.typing import Array

__all__ = ["Kind", "Record", "from_statistics", "to_statistics"]

Kind = Literal["said", "settled", "batch"]
TOGETHER = 8  # windows of a version that are judged together too: what one is too small to show
KEPT = 1000  # windows of a version that are kept for that


def to_statistics(window: Window, kind: Kind) -> str:
    """Return the JSON of a verdict's statistics: figures for a person, sums for the next start.

    kind: a window as it was said, the same once its labels are settled, or one of the batch phase, known to both.
    """
    return json.dumps({**window.figures(), "kind": kind, "sums": window.sums.tolist()})


def from_statistics(text: str) -> tuple[Array, Kind]:
    """Return (sums, kind) of what `to_statistics` wrote."""
    tree = json.loads(text)
    return np.array(tree["sums"]), tree["kind"]


@dataclass
class Record:
    """One kind of windows of one teacher: as they were said, or with the labels that came later.

    last: version and rows of it up to which there is a verdict. past: windows of earlier good versions.
    """

    bounds: HealthConfig
    last: tuple[int, int] = (-(2**31), 0)
    version: int = -(2**31)
    current: deque[Array] = field(default_factory=lambda: deque(maxlen=KEPT))
    past: deque[tuple[int, Array]] = field(init=False)

    def __post_init__(self) -> None:
        self.past = deque(maxlen=max(1, -(-self.bounds.reference_rows // self.bounds.rows)))

    def begin(self, version: int) -> None:
        """Go on to a version: the windows of the one before are now past."""
        if version != self.version:
            self.past.extend((self.version, sums) for sums in self.current)
            self.current.clear()
            self.version = version

    def judge(self, version: int, window: Window) -> str | None:
        """Return why the next window of `version` is bad, alone or together with its others so far; None
        when it is good.
        """
        self.begin(version)
        reference = self._reference()
        alone = judge(window, reference, self.bounds)
        if alone or len(self.current) + 1 < TOGETHER:
            return alone
        return judge(Window(np.stack([*self.current, window.sums])), reference, self.bounds)

    def _reference(self) -> Array:
        """Return the sums of the past's windows; of a first version's own where there is no past."""
        found = [sums for _, sums in self.past] or list(self.current)
        return np.stack(found) if found else np.zeros((0, len(FIELDS)))

    def good(self, version: int, rows: int, sums: Array) -> None:
        """Take up a good window that ends at row `rows` of its version."""
        self.begin(version)
        self.current.append(sums)
        self.last = max(self.last, (version, rows))

    def bad(self, version: int) -> None:
        """Forget the windows of a version that was found bad."""
        if version == self.version:
            self.current.clear()
        if any(each == version for each, _ in self.past):
            self.past = deque((each for each in self.past if each[0] != version), maxlen=self.past.maxlen)

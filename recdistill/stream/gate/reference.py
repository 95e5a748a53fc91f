"""The reference of one teacher: the approved windows that the next one is compared with.

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
from recdistill.stream.gate.health import FIELDS, HealthWindow, fault_of
from recdistill.typing import Array

__all__ = ["Kind", "ReferenceWindows", "from_statistics", "to_statistics"]

Kind = Literal["recorded", "settled", "batch"]
MIN_WINDOWS = 8  # of a version, from which on they are also judged together: one alone may be too small to show a fault
MAX_WINDOWS = 1000  # of a version that are kept for that


def to_statistics(window: HealthWindow, kind: Kind) -> str:
    """Return the JSON of a verdict's statistics: figures for a person, sums for the next start.

    kind: a window as it was recorded, the same once its labels are settled, or one of the batch phase, which counts as
    both.
    """
    return json.dumps({**window.figures(), "kind": kind, "sums": window.sums.tolist()})


def from_statistics(text: str) -> tuple[Array, Kind]:
    """Return (sums, kind) of what `to_statistics` wrote."""
    tree = json.loads(text)
    return np.array(tree["sums"]), tree["kind"]


@dataclass
class ReferenceWindows:
    """One kind of windows of one teacher: as they were recorded, or with the labels that came later.

    last: version and rows of it up to which there is a verdict. past: windows of earlier approved versions.
    """

    bounds: HealthConfig
    last: tuple[int, int] = (-(2**31), 0)
    version: int = -(2**31)
    current: deque[Array] = field(default_factory=lambda: deque(maxlen=MAX_WINDOWS))
    past: deque[tuple[int, Array]] = field(init=False)

    def __post_init__(self) -> None:
        self.past = deque(maxlen=max(1, -(-self.bounds.reference_rows // self.bounds.rows)))

    def begin(self, version: int) -> None:
        """Go on to a version: the windows of the one before are now past."""
        if version != self.version:
            self.past.extend((self.version, sums) for sums in self.current)
            self.current.clear()
            self.version = version

    def fault_of(self, version: int, window: HealthWindow) -> str | None:
        """Return why the next window of `version` is bad, alone or together with its others so far; None
        when it is healthy.
        """
        self.begin(version)
        reference = self._reference()
        alone = fault_of(window, reference, self.bounds)
        if alone or len(self.current) + 1 < MIN_WINDOWS:
            return alone
        return fault_of(HealthWindow(np.stack([*self.current, window.sums])), reference, self.bounds)

    def _reference(self) -> Array:
        """Return the sums of the past's windows; of a first version's own where there is no past."""
        found = [sums for _, sums in self.past] or list(self.current)
        return np.stack(found) if found else np.zeros((0, len(FIELDS)))

    def approve(self, version: int, rows: int, sums: Array) -> None:
        """Add a healthy window that ends at row `rows` of its version."""
        self.begin(version)
        self.current.append(sums)
        self.last = max(self.last, (version, rows))

    def reject(self, version: int) -> None:
        """Forget the windows of a version that was found bad."""
        if version == self.version:
            self.current.clear()
        if any(past == version for past, _ in self.past):
            self.past = deque((past for past in self.past if past[0] != version), maxlen=self.past.maxlen)

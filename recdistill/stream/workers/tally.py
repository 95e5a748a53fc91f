"""What a model of a stream counts: running sums of its figures, its lag, and the teacher versions it learned from."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from dataclasses import fields
from typing import Any

import numpy as np

from recdistill.stream.progress import Sums
from recdistill.typing import Array

__all__ = ["Tally"]


class Tally:
    """Counts since the hand-over, of the first task.

    sums: by name, those of `Sums` and the wall `seconds` spent learning. learned_from: rows learned with a signal, by
    (teacher, version). lag: the largest since the last commit, see `ModelProgress`. log_odds_offset: what the model's
    own sampling added to its logits.
    """

    def __init__(self, log_odds_offset: float) -> None:
        self.log_odds_offset = log_odds_offset
        self.sums: dict[str, float] = defaultdict(float)
        self.learned_from: Counter[tuple[str, str]] = Counter()
        self.lag = 0.0

    def add_predictions(self, labels: Array, logits: Array) -> None:
        """Add predictions and what then became known: float [n] labels (NaN: unknown) and logits."""
        self._add(labels, logits, 1)

    def correct(self, logits: Array) -> None:
        """Count samples that were negatives as positives."""
        self._add(np.zeros(len(logits)), logits, -1)
        self._add(np.ones(len(logits)), logits, 1)

    def _add(self, labels: Array, logits: Array, sign: int) -> None:
        known = ~np.isnan(labels)
        y, z = labels[known].astype(np.float64), logits[known].astype(np.float64) - self.log_odds_offset
        self.sums["labels"] += sign * len(y)
        self.sums["positives"] += sign * float(y.sum())
        self.sums["predicted"] += sign * float((1 / (1 + np.exp(-z))).sum())
        self.sums["logloss"] += sign * float((np.logaddexp(0, z) - y * z).sum())

    def add_learned(self, arrived: Array, published: Array, signals: Counter[tuple[str, str]]) -> None:
        """Add samples that were learned just now.

        arrived, published: float64 [n], wall seconds at which each came here and left its producer (0: unknown).
        signals: how many were learned with a signal, by (teacher, version).
        """
        now = time.time()
        self.sums["learned"] += len(arrived)
        self.sums["waiting"] += float((now - arrived).sum())
        if published.any():
            self.lag = max(self.lag, now - float(published[published > 0].min()))
        self.sums["signals"] += sum(signals.values())
        self.learned_from.update(signals)

    def as_sums(self) -> Sums:
        """Return the sums as a commit reports them."""
        return Sums(**{one.name: float(self.sums[one.name]) for one in fields(Sums)})

    def lineage(self) -> dict[str, dict[str, int]]:
        """Return the rows learned with a signal, by teacher and by version of it."""
        found: dict[str, dict[str, int]] = {}
        for (teacher, version), rows in self.learned_from.items():
            found.setdefault(teacher, {})[version] = rows
        return found

    def state(self) -> dict[str, Any]:
        """Return what `restore` takes, as JSON values."""
        return {"sums": dict(self.sums), "learned_from": self.lineage()}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from what `state` gave."""
        self.sums = defaultdict(float, state["sums"])
        self.learned_from = Counter(
            {
                (teacher, version): rows
                for teacher, versions in state["learned_from"].items()
                for version, rows in versions.items()
            }
        )

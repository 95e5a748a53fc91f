"""How good are the lists that a model serves, where the truth is known: expected clicks, the order of candidates."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from recdistill.typing import Array

__all__ = ["LoopPoint", "LoopSummary", "expected_gauc", "share_of_best"]


def expected_gauc(scores: Array, probability: Array) -> float:
    """Return the GAUC by request that scores [R, C] are expected to have, where each candidate is clicked on with its
    probability [R, C]: no clicks are drawn, so no noise comes with them. Requests weigh by their pairs.
    """
    pairs = probability[:, :, None] * (1 - probability[:, None, :]) * (1 - np.eye(scores.shape[1]))
    difference = scores[:, :, None] - scores[:, None, :]
    right = (difference > 0) + 0.5 * (difference == 0)
    return float((pairs * right).sum() / pairs.sum())


def share_of_best(clicks: float, random: float, best: float) -> float | None:
    """Return how much of what the best order has over a random one is there; None where they are equal."""
    return (clicks - random) / (best - random) if best > random else None


@dataclass(frozen=True)
class LoopPoint:
    """Some requests, one after the other. requests: how many came before them and in them; versions: that answered;
    clicks: per list, expected, by whose order: student, frozen, random, best; happened: drawn ones of the student's;
    gauc: expected, of student and frozen; away: answers without the user's kept history.
    """

    requests: int
    versions: list[int]
    clicks: dict[str, float]
    happened: float
    gauc: dict[str, float]
    away: int

    def share(self, whose: str) -> float | None:
        """Return the share of the best order's gain over a random one."""
        return share_of_best(self.clicks[whose], self.clicks["random"], self.clicks["best"])


@dataclass(frozen=True)
class LoopSummary:
    """A loop. candidates, shown: of a request; learned: samples that the student had predicted in the end."""

    name: str
    model: str
    candidates: int
    shown: int
    points: list[LoopPoint]
    learned: int

    @property
    def swaps(self) -> list[tuple[int, int]]:
        """Return (requests answered before, version) of every version but the first, in the order they came."""
        found, before, seen = [], 0, set(self.points[0].versions[:1]) if self.points else set()
        for point in self.points:
            found += [(before, version) for version in point.versions if version not in seen]
            seen |= set(point.versions)
            before = point.requests
        return found

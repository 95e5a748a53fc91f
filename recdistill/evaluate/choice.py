"""Which student to serve: candidates by quality, latency and bytes, what goes on to more rows, and what is recommended.

Successive halving (1502.07943), by thirds: every candidate learns from a ninth of the log, the best third of them from
a third of it, the best third of those from all. Best is by fronts: first the candidates that none beats in quality,
latency and bytes at once, then those that only they beat, and so on; within a front, by quality.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from recdistill.config.base import Strict
from recdistill.errors import UserError

__all__ = [
    "Budget",
    "Choice",
    "Cost",
    "Step",
    "Tried",
    "correction",
    "going_on",
    "nearest",
    "reach",
    "recipe_steps",
    "recommended",
]
__all__ += ["with_front"]

NOISE = 2.0  # standard errors of a difference that counts as none
KEEP_ONE_IN, MIN_KEPT = 3, 3  # candidates of a round


class Budget(Strict):
    """What a student may need: milliseconds of a request at the 99th percentile, MiB of its artefact; None: any."""

    latency_ms: float | None = None
    memory_mib: float | None = None


class Cost(Strict):
    """What serving takes: milliseconds of a request at the 99th percentile, MiB of the artefact; lost: what smaller
    rows take off the metric; whole: what it takes with the rows as they are, where they are smaller.
    """

    latency_ms: float
    memory_mib: float
    lost: float = 0.0
    whole: Cost | None = None

    @property
    def plain(self) -> Cost:
        """Return what serving takes with the rows as they are."""
        return self.whole or self


class Tried(Strict):
    """One candidate as of its last round: the keys that it changes; the metric of its raw and its distilled students,
    means over `seeds`, the latter with its standard deviation, after `rows` of the log; what serving it takes; why it
    went no further, None of one that learned from all rows; front: whether none is better in quality, latency and
    bytes.
    """

    name: str
    changes: dict[str, Any]
    rows: int
    seeds: int
    raw: float | None
    distilled: float | None
    distilled_std: float | None = None
    cost: Cost
    left_out: str | None = None
    front: bool = False

    @property
    def served(self) -> float | None:
        """Return the distilled student's metric, less what smaller rows take off it: that of the artefact."""
        return None if self.distilled is None else self.distilled - self.cost.lost

    @property
    def quality(self) -> float:
        """Return `served`, to compare by; one that has none is last."""
        return -math.inf if self.served is None else self.served

    def exceeds(self, budget: Budget) -> str | None:
        """Return which of the budgets it exceeds and by what, None for none."""
        over = []
        if budget.latency_ms is not None and self.cost.latency_ms > budget.latency_ms:
            over.append(f"{self.cost.latency_ms:.3g} ms at the 99th percentile, {budget.latency_ms:g} allowed")
        if budget.memory_mib is not None and self.cost.memory_mib > budget.memory_mib:
            over.append(f"{self.cost.memory_mib:,.4g} MiB, {budget.memory_mib:g} allowed")
        return "; ".join(over) or None


class Step(Strict):
    """The metric after a step of the recipe, and what serving takes then, of students that learned from `rows` rows."""

    name: str
    rows: int
    seeds: int
    quality: float | None
    cost: Cost


class Choice(Strict):
    """The study: what was tried, the best last round first; candidates: of each request that latency is measured with;
    reasons: of the recommendation, a sentence each; recipe: its steps, none where a grid names the students; stale:
    teachers that predict with old weights, where the recipe was tried.
    """

    name: str
    metric: str
    budget: Budget
    candidates: int
    teacher: float | None
    tried: list[Tried]
    recommended: str
    reasons: list[str]
    recipe: list[Step] = []
    stale: list[str] = []


def correction(stale: Sequence[str]) -> str:
    """Return what became of the recipe's first step, which is to correct the teacher on recent data."""
    if not stale:
        return (
            "Correcting the teacher on recent data is no step: it learns from every sample right after it predicted it"
        )
    names, verb = ", ".join(stale), "predicts" if len(stale) == 1 else "predict"
    return (
        f"Correcting the teacher on recent data, the recipe's first step, was not done: {names} {verb} with old "
        "weights, as stale says"
    )


def recipe_steps(own: Tried, recipe: Tried) -> list[Step]:
    """Return the steps of the recipe, of a round in which both it and the student that it makes, `own`, were tried.

    The order is Minitron's (2408.11796): correct the teacher on recent data, see `correction`, distil, prune, distil
    again; then quantise.
    """
    found = {
        "labels alone": (own.raw, own.cost),
        "distilled": (own.distilled, own.cost),
        "pruned, and distilled again": (recipe.distilled, recipe.cost.plain),
    }
    if recipe.cost.whole is not None and recipe.distilled is not None:
        found["rows as int8"] = (recipe.quality, recipe.cost)
    return [
        Step(name=name, rows=recipe.rows, seeds=recipe.seeds, quality=quality, cost=cost)
        for name, (quality, cost) in found.items()
    ]


def _beats(one: Tried, other: Tried) -> bool:
    """Return whether `one` is nowhere worse than `other` and somewhere better."""
    better = (-one.quality, one.cost.latency_ms, one.cost.memory_mib)
    worse = (-other.quality, other.cost.latency_ms, other.cost.memory_mib)
    return all(a <= b for a, b in zip(better, worse, strict=True)) and better != worse


def _fronts(tried: Sequence[Tried]) -> list[list[Tried]]:
    """Return the candidates front by front, each the best in quality first."""
    rest, found = list(tried), []
    while rest:
        front = [one for one in rest if not any(_beats(other, one) for other in rest)]
        found.append(sorted(front, key=lambda one: (-one.quality, one.cost.latency_ms, one.cost.memory_mib, one.name)))
        rest = [one for one in rest if one not in front]
    return found


def going_on(tried: Sequence[Tried]) -> list[str]:
    """Return the names of those that learn from more rows, a third of them, MIN_KEPT or more."""
    ordered = [one.name for front in _fronts(tried) for one in front]
    return ordered[: max(MIN_KEPT, math.ceil(len(ordered) / KEEP_ONE_IN))]


def with_front(tried: Sequence[Tried]) -> list[Tried]:
    """Return the candidates of one round with `front` set."""
    first = {one.name for one in _fronts(tried)[0]} if tried else set()
    return [one.model_copy(update={"front": one.name in first}) for one in tried]


def recommended(finalists: Sequence[Tried]) -> tuple[Tried, list[str]]:
    """Return (the candidate to serve, why) of those that meet the budget: the cheapest whose quality is not below the
    best one's by more than the noise of their seeds, where cheap is by latency and then by bytes.

    Raises UserError where none has the metric.
    """
    best = max(finalists, key=lambda one: (one.quality, -one.cost.latency_ms))
    if best.served is None:
        raise UserError(
            "choose: the scored window gives the students of the last round no metric to compare them by, as its "
            "report.html says; change evaluate.start"
        )
    as_good = [one for one in finalists if best.quality - one.quality <= _noise(best, one)]
    chosen = min(as_good, key=lambda one: (one.cost.latency_ms, one.cost.memory_mib))
    cost = f"{chosen.cost.latency_ms:.2f} ms at the 99th percentile, {chosen.cost.memory_mib:,.1f} MiB"
    if chosen.name == best.name:
        return chosen, [f"{chosen.name} has the best quality of those that meet the budget; it takes {cost}"]
    return chosen, [
        f"{best.name} has the best quality, {best.quality:.4f}; {chosen.name} has {chosen.quality:.4f}, which is "
        f"within {NOISE:g} standard errors of their seeds",
        f"{chosen.name} takes {cost}; {best.name} {best.cost.latency_ms:.2f} ms and {best.cost.memory_mib:,.1f} MiB",
    ]


def reach(rows: Sequence[int], start: float) -> list[str]:
    """Return what is to be known of rounds of so many samples, the last scored after the share `start` of its own: a
    sentence where one before it reaches into that window.
    """
    *before, last = rows
    if max(before, default=0) <= int(last * start):
        return []
    return ["the rounds before reach into the window of the last one, so who came there was chosen on it too"]


def _noise(one: Tried, other: Tried) -> float:
    """Return NOISE standard errors of the difference of two means over seeds; 0 where a deviation is unknown."""
    if one.name == other.name or None in (one.distilled_std, other.distilled_std):
        return 0.0
    variances = [(each.distilled_std or 0.0) ** 2 / max(each.seeds, 1) for each in (one, other)]
    return NOISE * math.sqrt(sum(variances))


def nearest(tried: Sequence[Tried], budget: Budget) -> str:
    """Return a sentence for a budget that nothing meets: the candidate that exceeds it least, and by what."""

    def over(one: Tried) -> float:
        return max(
            one.cost.latency_ms / budget.latency_ms if budget.latency_ms else 0.0,
            one.cost.memory_mib / budget.memory_mib if budget.memory_mib else 0.0,
        )

    least = min(tried, key=over)
    binds = {
        "latency": all(budget.latency_ms and one.cost.latency_ms > budget.latency_ms for one in tried),
        "memory": all(budget.memory_mib and one.cost.memory_mib > budget.memory_mib for one in tried),
    }
    always = " and ".join(name for name, bound in binds.items() if bound)
    some = "some meet the latency budget and some the memory budget, none meets both"
    why = f"the {always} budget is below all of them" if always else some
    return f"no student meets the budget: {why}; the nearest, {least.name}, takes {least.exceeds(budget)}"

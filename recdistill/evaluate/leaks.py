"""What simple rules score on the scored window, as a record of `leaks.json`, and what of it is a warning."""

from __future__ import annotations

import math
from collections.abc import Mapping

from pydantic import BaseModel, ConfigDict

__all__ = ["GroupRate", "Leaks", "RuleScore", "one_sided"]

SURE = 10  # rows of a class that a group must be expected to have before their absence means anything
ALMOST = 0.01  # of the rows expected of a class: as good as none
TWO_POOLS = "positives and negatives come from different pools"
COUNTED = "the student has learned less than a count of earlier outcomes tells: its learning rates are off, or"
CAUSES = {  # of a rule that scores above a student
    "pair": "the outcomes of a pair are bound together, as when negatives are items that the user never chooses at any "
    "time, which is known only afterwards; or users repeat themselves, and the student has learned less of it",
    "seen": "negatives leave out what the user chose before (data.negatives.exclude), or the student sees no repeats",
    "age": f"{TWO_POOLS}, new items on one side (data.negatives.positives), or the student cannot see an item's age",
    "popularity_hour": f"{TWO_POOLS} (data.negatives.positives), or the student cannot see what is popular now",
    "popularity_day": f"{TWO_POOLS} (data.negatives.positives), or the student cannot see what is popular now",
    "user_mean": f"{COUNTED} the log is too short for it",
    "item_mean": f"{COUNTED} the log is too short for it",
    "position": "where a row was placed decides its outcome and the student does not use it, or positions were given "
    "afterwards",
    "order": "the rows of a list are sorted by their outcome (shuffle each list), or by a place that the student does "
    "not see",
    "nulls": "a feature is filled in, or left empty, once the outcome is known",
}
NEVER = {  # of a group without positives, where it is another than that of the rule
    "met_negative": "negatives are items that the user never chooses at any time, which is known only afterwards",
    "met_positive": "what was chosen once is not chosen again: such rows are no question, leave them out",
    "seen": "what was chosen once is not chosen again: such rows are no question, leave them out",
}
CAUSE_OF = {"met_negative": "pair", "met_positive": "pair", "new": "age", "first": "order", "last": "order"}
ALWAYS = {  # of a group without negatives, likewise
    "met_positive": "negatives leave out what the user chose before (data.negatives.exclude)",
    "seen": "negatives leave out what the user chose before (data.negatives.exclude)",
    "new": "an item that nobody chose before is never drawn as a negative (data.negatives.positives)",
    "popularity_hour": "an item that nobody chose lately is never drawn as a negative (data.negatives.positives)",
    "popularity_day": "an item that nobody chose lately is never drawn as a negative (data.negatives.positives)",
}


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class RuleScore(_Part):
    """What one rule scores: null where the window has one class only, or no group with both."""

    rule: str
    text: str
    auc: float | None
    gauc: float | None

    def score(self, metric: str) -> float | None:
        """Return the score on `auc` or `gauc`."""
        return self.gauc if metric == "gauc" else self.auc


class GroupRate(_Part):
    """Some rows of the window that are alike, and how many of them are positive."""

    group: str
    text: str
    rows: int
    positives: int

    def one_sided(self, base_rate: float) -> str | None:
        """Return the likely cause where all of the rows have the same outcome though chance would give SURE of the
        other, None where they have not.
        """
        for causes, share, found in (
            (NEVER, base_rate, self.positives),
            (ALWAYS, 1 - base_rate, self.rows - self.positives),
        ):
            expected = share * self.rows
            if expected >= SURE and found <= ALMOST * expected:
                return causes.get(self.group) or CAUSES[CAUSE_OF.get(self.group, self.group)]
        return None


class Leaks(_Part):
    """The probe of a log: rules' scores on the window's rows and the rates of groups.

    users: the share of the users whose rows were looked at; group, start, version: of the events, as they were scored;
    warnings: sentences with the likely cause.
    """

    task: str
    group: str
    start: float
    version: int
    users: float
    rows: int
    base_rate: float
    rules: list[RuleScore]
    groups: list[GroupRate]
    warnings: list[str]

    @property
    def noise(self) -> float:
        """Return two standard deviations of the AUC of a score that knows nothing (Mann and Whitney, 1947)."""
        pairs = 12 * self.rows * self.rows * self.base_rate * (1 - self.base_rate)
        return 2 * math.sqrt((self.rows + 1) / pairs) if pairs else 1.0

    def against(self, best: Mapping[str, tuple[str, float]]) -> Leaks:
        """Return the probe with a warning for each rule that scores above the raw students, by more than the noise.

        best: metric (gauc, auc) -> (the best raw student, its value); the first that a rule is above is named.
        """
        above = [line for one in self.rules if (line := _above(one, best, self.noise)) is not None]
        return self.model_copy(update={"warnings": [*self.warnings, *above]})


def _above(rule: RuleScore, best: Mapping[str, tuple[str, float]], noise: float) -> str | None:
    for metric, (student, value) in best.items():
        mine = rule.score(metric)
        if mine is not None and mine > value + noise:
            return (
                f"A rule alone scores {metric.upper()} {mine:.4f} ({rule.text}), the raw student {student} has "
                f"{value:.4f}. "
                f"Likely cause: {CAUSES[rule.rule]}"
            )
    return None


def one_sided(groups: list[GroupRate], base_rate: float) -> list[str]:
    """Return a warning for each group whose rows all have one outcome."""
    return [
        f"{one.text}: {one.positives:,} of {one.rows:,} rows are positive, where the base rate is {base_rate:.3f}. "
        f"Likely cause: {cause}"
        for one in groups
        if (cause := one.one_sided(base_rate)) is not None
    ]

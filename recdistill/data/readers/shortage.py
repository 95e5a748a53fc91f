"""What sampled negatives fell short of: positives left out, places that stayed empty, and the window that would do."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from recdistill.config.data import NegativesConfig
from recdistill.errors import UserError
from recdistill.typing import Array

__all__ = ["Shortage"]

HOURS = (1, 2, 3, 6, 12, 24, 48, 72, 168, 336, 720, 2160, 8760)  # windows that are worth naming
ENOUGH = 0.9  # of the positives: a window is named that holds an earlier moment for so many
MICROSECONDS = 3_600_000_000  # in an hour


@dataclass
class Shortage:
    """positives: read so far; outside: of them, left out since nobody else chose them in the window; short: left out
    since it holds too few items to fill their list.

    places: asked for around the positives that stay; empty: of these, not filled, around `lists` positives; reached:
    for each of HOURS, how many positives have an earlier moment so close before them; last: the newest moment, us.
    """

    positives: int = 0
    outside: int = 0
    short: int = 0
    places: int = 0
    empty: int = 0
    lists: int = 0
    reached: Array = field(default_factory=lambda: np.zeros(len(HOURS), np.int64))
    last: int | None = None

    def count(self, time: Array, kept: Array, full: Array, picked: Array) -> None:
        """Count positives of whole instants: int64 [n] us, bool [n] chosen by others, bool [n] that stay, and [n, P]
        their negatives, -1 for none.
        """
        self.outside += int((~kept).sum())
        self.short += int((kept & ~full).sum())
        empty = picked[full] < 0
        self.places += empty.size
        self.empty += int(empty.sum())
        self.lists += int(empty.any(1).sum())
        self._reach(time)
        self.positives += len(time)

    def _reach(self, time: Array) -> None:
        moments, rows = np.unique(time, return_counts=True)
        before = np.diff(moments, prepend=moments[0] if self.last is None else self.last)
        near = (before[:, None] > 0) & (before[:, None] <= np.array(HOURS) * MICROSECONDS)
        self.reached += (near * rows[:, None]).sum(0)
        self.last = int(moments[-1])

    def lines(self, config: NegativesConfig) -> list[str]:
        """Return what to print, nothing where nothing is missing."""
        found = []
        if self.outside + self.short:
            found.append(
                f"negatives: {self.outside:,} of {self.positives:,} positives left out that nobody else chose in the "
                f"window before, {self.short:,} more whose list could not be filled (data.negatives.positives: all "
                "keeps them, but then a new item is always a positive)"
            )
        if self.empty:
            found.append(
                f"negatives: {self.empty:,} of {self.places:,} places stayed empty, around {self.lists:,} of "
                f"{self.positives:,} positives: {self._cause(config)}"
            )
        return found

    def _cause(self, config: NegativesConfig) -> str:
        """Return why places stay empty where the window is not, with what to set."""
        if config.exclude == "chosen":
            return (
                "their windows hold too few other items that the user had not chosen before; set data.negatives."
                "exclude: nothing, or raise window_hours"
            )
        return "their windows hold too few other items; raise data.negatives.window_hours"

    def check(self, config: NegativesConfig, source: str) -> None:
        """Raise UserError where the log has less than one negative to a positive that stays, or no such positive."""
        left = self.positives - self.outside - self.short
        if not self.positives or (left and self.places - self.empty >= left):
            return
        if left:
            found = f"{self.places - self.empty:,} negatives for {left:,} positives, less than one each"
        else:
            found = (
                f"not one of {self.positives:,} positives remains: {self.outside:,} that nobody else chose in the "
                f"window before, {self.short:,} whose list could not be filled"
            )
        raise UserError(f"{source}: data.negatives: {found}; {self._mend(config, left > 0)}")

    def _mend(self, config: NegativesConfig, left: bool) -> str:
        """Return what to set: a longer window where the present one seldom reaches back to any earlier moment. left:
        whether any positive stays.
        """
        needed = [hours for hours, rows in zip(HOURS, self.reached, strict=True) if rows >= ENOUGH * self.positives]
        if needed and needed[0] > config.window_hours:
            return (
                f"times are so far apart that {config.window_hours:g} h before a positive seldom hold another moment; "
                f"set window_hours: {needed[0]}"
            )
        if not self.reached[-1]:
            return "all positives have the same time, or lie years apart, so that nothing stands before them"
        fewer = "" if left or config.per_positive == 1 else "lower per_positive, "
        other = "exclude: nothing" if config.exclude == "chosen" else "positives: all"
        return f"raise window_hours, {fewer}or set {other}"

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
    """positives: read so far; outside: of them, left out since nobody else chose them where negatives are drawn from;
    short: left out since that holds too few items to fill their list.

    places: asked for around the positives that stay; empty: of these, not filled, around `lists` positives; reached:
    for each of HOURS, how many positives have an earlier moment so close before them; last: the newest moment, us;
    kept: keep rates of the pairs that are negatives (least, largest); kept_sum: of all of them.
    """

    positives: int = 0
    outside: int = 0
    short: int = 0
    places: int = 0
    empty: int = 0
    lists: int = 0
    reached: Array = field(default_factory=lambda: np.zeros(len(HOURS), np.int64))
    last: int | None = None
    kept: tuple[float, float] = (np.inf, 0.0)
    kept_sum: float = 0.0

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

    def rate(self, log_q: Array, per_positive: int) -> None:
        """Count the keep rates per_positive * q of negatives, float64 [m] each."""
        if len(log_q):
            rates = np.minimum(per_positive * np.exp(log_q), 1.0)
            self.kept = min(self.kept[0], float(rates.min())), max(self.kept[1], float(rates.max()))
            self.kept_sum += float(rates.sum())

    def _reach(self, time: Array) -> None:
        moments, rows = np.unique(time, return_counts=True)
        before = np.diff(moments, prepend=moments[0] if self.last is None else self.last)
        near = (before[:, None] > 0) & (before[:, None] <= np.array(HOURS) * MICROSECONDS)
        self.reached += (near * rows[:, None]).sum(0)
        self.last = int(moments[-1])

    def lines(self, config: NegativesConfig) -> list[str]:
        """Return what to print: what is missing, and at which rates pairs were kept."""
        found, draw = [], f"negatives, draw {config.draw}"
        if self.outside + self.short:
            found.append(
                f"{draw}: {self.outside:,} of {self.positives:,} positives left out that nobody else chose "
                f"{_where(config)}, {self.short:,} more whose list could not be filled (data.negatives.positives: all "
                "keeps them, but then a new item is always a positive)"
            )
        if self.empty:
            found.append(
                f"{draw}: {self.empty:,} of {self.places:,} places stayed empty, around {self.lists:,} of "
                f"{self.positives:,} positives: {self._cause(config)}"
            )
        if self.places > self.empty:
            mean, (least, largest) = self.kept_sum / (self.places - self.empty), self.kept
            found.append(
                f"{draw}: {self.places - self.empty:,}; a pair of user and item was kept as a negative at a rate of "
                f"{mean:.3g} on average, {least:.3g} to {largest:.3g} (per_positive x exp(log_q))"
            )
        return found

    def _cause(self, config: NegativesConfig) -> str:
        """Return why places stay empty where there is something to draw from, with what to set."""
        other, more = f"too few other items stand {_where(config)}", _more(config)
        if config.exclude == "chosen":
            other += " that the user had not chosen before"
            return f"{other}; set data.negatives.exclude: nothing{f', or {more}' if more else ''}"
        return f"{other}; {more or 'lower data.negatives.per_positive'}"

    def check(self, config: NegativesConfig, source: str) -> None:
        """Raise UserError where the log has less than one negative to a positive that stays, or no such positive."""
        left = self.positives - self.outside - self.short
        if not self.positives or (left and self.places - self.empty >= left):
            return
        if left:
            found = f"{self.places - self.empty:,} negatives for {left:,} positives, less than one each"
        else:
            found = (
                f"not one of {self.positives:,} positives remains: {self.outside:,} that nobody else chose "
                f"{_where(config)}, {self.short:,} whose list could not be filled"
            )
        raise UserError(f"{source}: data.negatives: {found}; {self._mend(config, left > 0)}")

    def _mend(self, config: NegativesConfig, left: bool) -> str:
        """Return what to set: a longer window where the present one seldom reaches back to any earlier moment. left:
        whether any positive stays.
        """
        needed = [hours for hours, rows in zip(HOURS, self.reached, strict=True) if rows >= ENOUGH * self.positives]
        if config.draw == "window" and needed and needed[0] > config.window_hours:
            return (
                f"times are so far apart that {config.window_hours:g} h before a positive seldom hold another moment; "
                f"set window_hours: {needed[0]}"
            )
        if not self.reached[-1]:
            return "all positives have the same time, or lie years apart, so that nothing stands before them"
        if left:
            return f"{more}, or set {_other(config)}" if (more := _more(config)) else f"set {_other(config)}"
        mends = [
            _more(config),
            "lower per_positive" if self.short and config.per_positive > 1 else "",
            f"set {_other(config)}",
        ]
        *first, last = [mend for mend in mends if mend]
        return f"{', '.join(first)}, or {last}" if first else last


def _where(config: NegativesConfig) -> str:
    """Return where negatives are drawn from, in words."""
    places = {"window": "in the window before", "batch": f"among the {config.rows:,} positives before"}
    return places.get(config.draw, "before")


def _more(config: NegativesConfig) -> str:
    """Return what to set so that there is more to draw from; empty where everything is drawn from."""
    return {"window": "raise data.negatives.window_hours", "batch": "raise data.negatives.rows"}.get(config.draw, "")


def _other(config: NegativesConfig) -> str:
    return "exclude: nothing" if config.exclude == "chosen" else "positives: all"

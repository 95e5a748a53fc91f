"""Where the parts of a job are: still to do, worked on, or done; which of them cost how many workers."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from recdistill.errors import RecdistillError

__all__ = ["ATTEMPTS", "Ledger", "Work", "outcome_of"]

ATTEMPTS = 3  # at a part, before it is given up
AHEAD = 4  # parts per worker that may wait for an earlier one to be done
Outcome = tuple[bool, Any]  # (whether it failed, the result or the error)
Work = Callable[[Any], Any]


def outcome_of(work: Work, part: object) -> Outcome:
    """Return what became of a part, in the process that works on it."""
    try:
        return False, work(part)
    except Exception as error:
        return True, error


class Ledger:
    """The parts of a job, for `count` workers that take one after the other."""

    def __init__(self, parts: Sequence[Any], count: int) -> None:
        self.parts, self.ahead = parts, AHEAD * count
        self.first = 0  # that was not yielded yet
        self._todo = deque(range(len(parts)))
        self._done: dict[int, Outcome] = {}
        self._losses: Counter[int] = Counter()

    def take(self) -> int | None:
        """Return the number of the next part to work on, None where there is none for now."""
        return self._todo.popleft() if self._todo and self._todo[0] < self.first + self.ahead else None

    def finish(self, number: int, outcome: Outcome) -> None:
        """Note what became of a part."""
        self._done[number] = outcome

    def lose(self, number: int, why: str) -> None:
        """Note that a part's worker is gone: it is to be done again, or has failed once that happened too often."""
        self._losses[number] += 1
        if self._losses[number] < ATTEMPTS:
            self._todo.appendleft(number)
            return
        error = RecdistillError(
            f"{self.parts[number]}: its worker was lost {ATTEMPTS} times ({why}; out of memory?); run the same command "
            "again with fewer workers, or on machines with more memory"
        )
        self._done[number] = (True, error)

    def results(self, step: Callable[[], None]) -> Iterator[Any]:
        """Yield the results in the order of the parts; raises the error of the first part that has one.

        `step` gives parts to workers, and waits until one is done or gone.
        """
        while self.first < len(self.parts):
            while self.first not in self._done:
                step()
            failed, value = self._done.pop(self.first)
            self.first += 1
            if failed:
                raise value
            yield value

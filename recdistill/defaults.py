"""Numbers and names that several parts share, and that cost nothing to import."""

from __future__ import annotations

__all__ = [
    "CANARY_CALIBRATION",
    "CANARY_ERRORS",
    "CANARY_SLOWER",
    "GIVEN_HISTORY",
    "LIST_LENGTH",
    "PUBLISHED",
    "SECOND",
]

LIST_LENGTH = 8  # entries of a list that models see, unless the experiment has another number
SECOND = 1_000_000  # us
GIVEN_HISTORY = "history"  # the sequence of a row that stands in place of its user's earlier samples
PUBLISHED = (
    "recdistill.published"  # in the metadata of rows on their way to a stream: when they left, seconds since 1970
)
CANARY_ERRORS, CANARY_SLOWER, CANARY_CALIBRATION = 0.01, 2.0, 1.5  # bounds of a canary, see `Bounds`

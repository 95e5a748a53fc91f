"""Numbers and names that the experiment file and the tables share."""

from __future__ import annotations

__all__ = ["GIVEN_HISTORY", "LIST_LENGTH"]

LIST_LENGTH = 8  # entries of a list that models see, unless the experiment has another number
GIVEN_HISTORY = "history"  # the sequence of a row that stands in place of its user's earlier samples

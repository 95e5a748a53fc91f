"""Numbers that the experiment file and the tables share."""

from __future__ import annotations

__all__ = ["LIST_LENGTH"]

LIST_LENGTH = 8  # entries of a list that models see, unless the experiment has another number

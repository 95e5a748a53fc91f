"""Numbers that several parts share, and that cost nothing to import."""

from __future__ import annotations

__all__ = ["LIST_LENGTH", "SECOND"]

LIST_LENGTH = 8  # entries of a list that models see, unless the experiment has another number
SECOND = 1_000_000  # us

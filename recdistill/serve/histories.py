"""Histories that a server keeps: used where a request brings none."""

from __future__ import annotations

from typing import Protocol

from recdistill.serve.request import Id, Past

__all__ = ["Histories"]


class Histories(Protocol):
    """Where a user's events are kept; asked by several threads at a time."""

    def of(self, user: Id) -> Past | None:
        """Return what the user did, None for one who is not known."""
        ...

"""Who works on the data: the log, the store, predictions of a whole log, scores."""

from __future__ import annotations

from pydantic import Field

from recdistill.config.base import Strict

__all__ = ["WorkersConfig"]


class WorkersConfig(Strict):
    """How many parts of the data are worked on at a time. Nothing else depends on it."""

    count: int = Field(default=1, ge=1, le=4096)

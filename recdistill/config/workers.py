"""Who works on the data: the log, the store, predictions of a whole log, scores."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from recdistill.config.base import Strict

__all__ = ["WorkersConfig"]


class WorkersConfig(Strict):
    """How many parts of the data are worked on at a time, and by what. No result depends on it."""

    count: int = Field(default=1, ge=1, le=4096)
    engine: Literal["processes", "ray"] = "processes"

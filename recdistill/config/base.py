"""What every part of the experiment file is made of."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["Positive", "Rate", "Strict"]

Rate = Annotated[float, Field(gt=0.0, le=1.0)]
Positive = Annotated[int, Field(ge=1)]


class Strict(BaseModel):
    """A group of keys: others are refused, and nobody changes them later."""

    model_config = ConfigDict(extra="forbid", frozen=True)

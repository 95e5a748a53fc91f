"""What a student begins from, where that is not chance: its teacher's rows or network."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from recdistill.config.base import Strict

__all__ = ["Part", "WarmStartConfig"]

Part = Literal["item", "user", "context", "network"]


class WarmStartConfig(Strict):
    """What a student takes over from its teacher at one point of the log, from what the teacher knew there: rows, at
    the student's width without training (CrossAdapt, 2602.01775), which may then stay as they are (GPSD, 2506.03699);
    or the units of its network, rows included, that count most.
    """

    at: float = Field(default=0.25, gt=0, lt=1)  # share of the log, down to a whole checkpoint
    parts: list[Part] = Field(default=["item"], min_length=1)  # whose rows; network: everything
    frozen: float = Field(default=0.0, ge=0, le=1)  # share of the log in which they learn nothing; to its end: for good

    @property
    def thaw(self) -> float:
        """Return the share of the log after which its rows learn again; 1 or more: never."""
        return round(self.at + self.frozen, 9)  # 0.7 + 0.2 would end before 0.9

    @field_validator("parts")
    @classmethod
    def _each_once(cls, parts: list[Part]) -> list[Part]:
        if len(set(parts)) < len(parts):
            raise ValueError("each may stand once")
        if "network" in parts and len(parts) > 1:
            raise ValueError("network brings the rows of every table; name it alone")
        return parts

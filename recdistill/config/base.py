"""What every part of the experiment file is made of."""

from __future__ import annotations

import hashlib
import re
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

__all__ = ["MAX_NAME", "NAME", "Name", "Positive", "Rate", "Strict", "check_name", "shortened", "slug"]

MAX_NAME = 64  # characters; a model's name, percent-encoded, then still fits the 255 bytes of a file's name
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._=,-]*")

Rate = Annotated[float, Field(gt=0.0, le=1.0)]
Positive = Annotated[int, Field(ge=1)]


def check_name(name: str) -> str:
    """Return a name that may become a folder, a writer's id or a metric's label; ValueError for any other."""
    if len(name) > MAX_NAME or not NAME.fullmatch(name):
        raise ValueError(
            f"a name has letters, digits and . _ = , - only, begins with a letter or digit, and is at most {MAX_NAME} "
            "characters long"
        )
    return name


Name = Annotated[str, AfterValidator(check_name)]


def slug(value: Any) -> str:
    """Return `value` as a part of a name: other characters become _."""
    return "".join(sign if sign.isascii() and sign.isalnum() or sign in ".-" else "_" for sign in str(value))


def shortened(name: str) -> str:
    """Return a made-up name as it is, or, where it is too long, its start and a hash of the whole."""
    if len(name) <= MAX_NAME:
        return name
    return f"{name[: MAX_NAME - 9]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


class Strict(BaseModel):
    """A group of keys: others are refused, and nobody changes them later."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

"""Whether a process is one of several ranks; without torch, so that a command knows it at once."""

from __future__ import annotations

import os
from collections.abc import Mapping

__all__ = ["asked_for"]


def asked_for(environment: Mapping[str, str] = os.environ) -> bool:
    """Return whether this process was started as one of several, as torchrun does."""
    return environment.get("WORLD_SIZE", "1") not in ("", "1")

"""Sweeps: `make test` tries the first values, `make test-all` all of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

__all__ = ["swept"]


def swept(values: Sequence[Any], quick: int = 1) -> list[Any]:
    """Return a test's parameters, all but the first `quick` marked `long`; a tuple holds one value per name."""
    rest = (value if isinstance(value, tuple) else (value,) for value in values[quick:])
    return [*values[:quick], *(pytest.param(*each, marks=pytest.mark.long) for each in rest)]

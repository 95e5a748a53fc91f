"""Training in the test's own process, for starting others takes seconds, and none of what is tested."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from recdistill.train import pool

__all__ = ["trains_here"]


@contextmanager
def trains_here() -> Iterator[pytest.MonkeyPatch]:
    """Let jobs be trained as those of a class are that only this process knows; give what else may be patched."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pool, "importable", lambda kind: False)
        yield patch

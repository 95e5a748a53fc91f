"""What several scorers take, in one process: by turns, so that what else the machine does meets all of them alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from recdistill.typing import Array

__all__ = ["by_turns"]


def by_turns(work: Mapping[str, tuple[Callable[[Any], object], Sequence[Any]]], times: int) -> dict[str, Array]:
    """Return float64 [times * requests] seconds by name: `times` rounds, in each of which every name's function is
    called with each of its requests; the round before them is not counted.
    """
    seconds: dict[str, list[float]] = {name: [] for name in work}
    for turn in range(times + 1):
        for name, (call, requests) in work.items():
            for request in requests:
                began = time.perf_counter()
                call(request)
                if turn:
                    seconds[name].append(time.perf_counter() - began)
    return {name: np.array(taken) for name, taken in seconds.items()}

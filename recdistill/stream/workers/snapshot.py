"""The parts of a model's checkpoint: flat tensors and JSON values, gathered from what has a state and given back to it.

tensors   PART/NAME per array of a part, the learner's without a prefix
state     revision, run, rows, versions of the tables, learned_from, sums, predicted, learner, parts
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from recdistill.distributed.ranks import Rows
from recdistill.errors import UserError
from recdistill.storage.location import Location
from recdistill.typing import Array

__all__ = ["REVISION", "Part", "check_revision", "gather", "split"]

REVISION = 5  # of a stream checkpoint's keys; 3: counts of outcomes; 4: weights of rows; 5: bytes of ids


class Part(Protocol):
    """What keeps a state of its own besides the learner."""

    def state(self) -> tuple[dict[str, Array], dict[str, Any]]:
        """Return the state as (arrays, JSON values)."""


def check_revision(folder: Location, state: Mapping[str, Any]) -> None:
    """Raise UserError for the state of a checkpoint in `folder` that another revision wrote."""
    found = state.get("revision", 1)
    if found != REVISION:
        raise UserError(
            f"{folder}: checkpoints of revision {found}, of which this recdistill reads {REVISION}; go on with the one "
            "that wrote them, or start another run"
        )


def gather(parts: Mapping[str, Part]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return copies of the parts' states, as (tensors named PART/NAME, JSON values by part)."""
    tensors: dict[str, Tensor] = {}
    states: dict[str, Any] = {}
    for name, part in parts.items():
        arrays, states[name] = part.state()
        tensors |= {f"{name}/{key}": torch.from_numpy(np.array(values)) for key, values in arrays.items()}
    return tensors, states


def split(tensors: Mapping[str, Rows], names: Iterable[str]) -> tuple[dict[str, dict[str, Array]], dict[str, Rows]]:
    """Return (arrays by part, for the parts in `names`; the tensors of the learner, which are all others, not read)."""
    arrays: dict[str, dict[str, Array]] = {name: {} for name in names}
    learner: dict[str, Rows] = {}
    for key, tensor in tensors.items():
        part, _, name = key.partition("/")
        if part in arrays:
            arrays[part][name] = tensor[...].numpy()
        else:
            learner[key] = tensor
    return arrays, learner

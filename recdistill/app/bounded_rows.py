"""Which models of a run keep to a budget of rows, and what came of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from recdistill.checkpoint.store import Checkpoints
from recdistill.runs.folder import RunFolder
from recdistill.storage.location import names
from recdistill.stream.workers.build import stream_checkpoints

__all__ = ["bounded_lines"]


def bounded_lines(folder: RunFolder) -> Iterator[str]:
    """Yield a line per model whose rows are bounded, of its newest checkpoint, a stream's before that of the batch
    phase.
    """
    for name in sorted(names(folder.root / "models")):
        for checkpoints in (stream_checkpoints(folder, name), Checkpoints(folder.model(name))):
            blocks = checkpoints.blocks()
            if blocks and (facts := checkpoints.whole_state(blocks[-1]).get("learner", {}).get("bounded")):
                yield f"{name}: {_total(facts)}"
                break


def _total(facts: dict[str, dict[str, int]]) -> str:
    """Return in words what the tables of a model counted together."""
    total: dict[str, Any] = {key: sum(table[key] for table in facts.values()) for key in next(iter(facts.values()))}
    return (
        f"{total['held']:,} ids have a row; rows were given {total['admitted']:,} times, {total['evicted']:,} of them "
        f"another id's; {total['refused']:,} look-ups of an id that was due found none"
    )

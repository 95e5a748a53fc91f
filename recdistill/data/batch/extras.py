"""What a log gives models besides ids, fields, lists and histories; networks are built for what it has."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from recdistill.defaults import GIVEN_HISTORY

if TYPE_CHECKING:  # networks are built where there are no tables, too
    from recdistill.tables.schema import EventSchema

__all__ = ["NO_EXTRAS", "Extras", "extra_sequences", "extras_of"]


@dataclass(frozen=True)
class Extras:
    """values: columns of `Batch.values`; sequences: how many histories `Batch.sequences` has; vectors: (side, V) of
    `Batch.vectors`.
    """

    values: int = 0
    sequences: int = 0
    vectors: tuple[tuple[str, int], ...] = ()


NO_EXTRAS = Extras()


def extra_sequences(names: Iterable[str]) -> list[str]:
    """Return which of the sequences that rows bring are no history, but stand next to it."""
    return [name for name in names if name != GIVEN_HISTORY]


def extras_of(schema: EventSchema) -> Extras:
    """Return what a log of `schema` gives."""
    from recdistill.data.store.encoder import value_count

    return Extras(value_count(schema), len(extra_sequences(schema.sequences)), schema.vector_widths)

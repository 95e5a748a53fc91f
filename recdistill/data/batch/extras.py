"""What a log gives models besides ids, fields, lists and histories; networks are built for what it has."""

from __future__ import annotations

from dataclasses import dataclass

from recdistill.data.store.encoder import value_count
from recdistill.tables.schema import EventSchema

__all__ = ["NO_EXTRAS", "Extras", "extras_of"]


@dataclass(frozen=True)
class Extras:
    """values: V, columns of `Batch.values`."""

    values: int = 0


NO_EXTRAS = Extras()


def extras_of(schema: EventSchema) -> Extras:
    """Return what a log of `schema` gives."""
    return Extras(value_count(schema))

"""What every reader returns: the log in the tables' own columns, in time order, a chunk at a time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from recdistill.tables.schema import EventSchema

if TYPE_CHECKING:
    from recdistill.data.readers.vector_tables import VectorTable

__all__ = ["Log", "Source"]


@dataclass(frozen=True)
class Source:
    """A path that a log is read from: its files, or the version of its Delta table (`TABLE-ID VERSION`)."""

    path: Path
    files: tuple[Path, ...] = ()
    version: str = ""


@dataclass(frozen=True)
class Log:
    """schema: of the events; batches: gives their chunks, every sample id once over all of them; behaviors: likewise,
    or None.

    source: for messages; item_features: which of the schema's features describe the item alone; notes: what to tell the
    user once the chunks were read, such as what was left out; names: the user's names of the table's columns; sources:
    what is read; vectors: the tables of pre-trained vectors; counts: what a table's samples add to the notes.
    """

    schema: EventSchema
    batches: Callable[[], Iterator[pl.DataFrame]]
    behaviors: Callable[[], Iterator[pl.DataFrame]] | None
    source: str
    item_features: tuple[str, ...] = ()
    notes: Callable[[], list[str]] = list
    names: dict[str, str] = field(default_factory=dict)
    sources: tuple[Source, ...] = ()
    vectors: tuple[VectorTable, ...] = ()
    counts: Counter[str] = field(default_factory=Counter)

"""Any Parquet, CSV or Delta table, by a mapping of its columns."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from recdistill.config.data import DataConfig
from recdistill.data.readers.base import Log
from recdistill.data.readers.columns import Column, Counts, names_of
from recdistill.data.readers.files import CHUNK, RawTable
from recdistill.data.readers.mapping import behavior_columns
from recdistill.data.readers.options import NoOptions, read_options
from recdistill.data.readers.rows import EventReader, behavior_rows, kinds_in, notes_of
from recdistill.data.readers.scan import scan_file

__all__ = ["event_reader", "read_table"]

LISTS = 65_536  # rows in memory, where they bring sequences of any length


def event_reader(config: DataConfig, folder: Path) -> EventReader:
    """Return what reads the samples of the table that `config` maps; UserError for one that cannot be opened."""
    return EventReader(
        scan_file(folder / config.path, config),
        config.columns,
        config.sort,
        rows=LISTS if config.columns.sequences else CHUNK,
        drop_missing=config.drop_missing,
        vectors=config.vectors,
    )


def read_table(config: DataConfig, folder: Path) -> Log:
    """Return the log that `config` maps; paths are relative to `folder`. UserError for anything that does not fit."""
    read_options(config, NoOptions)
    events = event_reader(config, folder)
    schema, made = events.mapped()
    read, counts, behaviors = [(events.source, made)], Counts(), None
    if config.behaviors is not None:
        mapping, actions = config.behaviors, scan_file(folder / config.behaviors.path, config.behaviors)
        read.append((actions, behavior_columns(kinds_in(actions, []), mapping, schema, actions.path)))  # refuses names
        behaviors = partial(behavior_rows, actions, mapping, schema, counts=counts)
    return Log(
        schema,
        events.chunks,
        behaviors,
        str(events.source.path),
        notes=lambda: [*events.notes(), *notes_of(counts), *(line for one in read for line in _absent(*one))],
        names=names_of(made),
        sources=tuple(source.source for source, _ in read),
        counts=events.counts,
    )


def _absent(source: RawTable, columns: dict[str, Column]) -> list[str]:
    """Return a line for each column of the mapping that some of the source's files lack."""
    names = dict.fromkeys(column.source for column in columns.values())
    return [
        f"{source.path}: column '{name}' is not in {source.absent[name]:,} of {len(source.parts):,} files; "
        "it is empty there"
        for name in names
        if name in source.absent
    ]

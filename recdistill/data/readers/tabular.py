"""Any Parquet, CSV or Delta table, by a mapping of its columns."""

from __future__ import annotations

from pathlib import Path

from recdistill.config.data import DataConfig
from recdistill.data.readers.base import Log
from recdistill.data.readers.columns import Column, Counts
from recdistill.data.readers.files import RawTable
from recdistill.data.readers.mapping import behavior_columns
from recdistill.data.readers.options import NoOptions, read_options
from recdistill.data.readers.rows import EventReader, behavior_rows, kinds_in, notes_of
from recdistill.data.readers.scan import scan_file

__all__ = ["read_table"]


def read_table(config: DataConfig, folder: Path) -> Log:
    """Return the log that `config` maps; paths are relative to `folder`. UserError for anything that does not fit."""
    read_options(config, NoOptions)
    events = EventReader(
        scan_file(folder / config.path, config), config.columns, config.sort, drop_missing=config.drop_missing
    )
    schema, made = events.mapped()
    behaviors = config.behaviors
    name = str(events.source.path)
    if behaviors is None:
        return Log(
            schema,
            events.chunks,
            None,
            name,
            notes=lambda: [*events.notes(), *_absent(events.source, made)],
            names=events.names(),
            sources=(events.source.source,),
        )
    actions = scan_file(folder / behaviors.path, behaviors)
    acted = behavior_columns(kinds_in(actions, []), behaviors, schema, actions.path)  # a wrong name is refused at once
    counts: Counts = {}
    return Log(
        schema,
        events.chunks,
        lambda: behavior_rows(actions, behaviors, schema, counts=counts),
        name,
        notes=lambda: [
            *events.notes(),
            *notes_of(counts),
            *_absent(events.source, made),
            *_absent(actions, acted),
        ],
        names=events.names(),
        sources=(events.source.source, actions.source),
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

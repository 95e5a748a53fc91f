"""Any Parquet, CSV or Delta table, by a mapping of its columns."""

from __future__ import annotations

from pathlib import Path

from recdistill.config.data import DataConfig
from recdistill.data.readers.base import Log
from recdistill.data.readers.columns import Counts
from recdistill.data.readers.files import scan_file
from recdistill.data.readers.mapping import behavior_columns
from recdistill.data.readers.options import NoOptions, read_options
from recdistill.data.readers.rows import EventReader, behavior_rows, kinds_in, notes_of

__all__ = ["read_table"]


def read_table(config: DataConfig, folder: Path) -> Log:
    """Return the log that `config` maps; paths are relative to `folder`. UserError for anything that does not fit."""
    read_options(config, NoOptions)
    events = EventReader(scan_file(folder / config.path), config.columns, config.sort, drop_missing=config.drop_missing)
    schema, _ = events.mapped()
    behaviors = config.behaviors
    if behaviors is None:
        return Log(schema, events.chunks, None, str(events.source.path), notes=events.notes, names=events.names())
    actions = scan_file(folder / behaviors.path)
    behavior_columns(kinds_in(actions, []), behaviors, schema, actions.path)  # a wrong name is refused at once
    counts: Counts = {}
    return Log(
        schema,
        events.chunks,
        lambda: behavior_rows(actions, behaviors, schema, counts=counts),
        str(events.source.path),
        notes=lambda: [*events.notes(), *notes_of(counts)],
        names=events.names(),
    )

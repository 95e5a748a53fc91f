"""From the user's log to the tables: everything is checked and written beside the run, then appears by one rename."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from recdistill.config import Experiment
from recdistill.data.readers import Log, open_log
from recdistill.errors import UserError
from recdistill.learn.folder import RunFolder
from recdistill.tables import BehaviorLog, EventLog

__all__ = ["ingest", "open_tables"]


def open_tables(folder: RunFolder) -> tuple[EventLog, BehaviorLog | None]:
    """Return the run's events and, where given, behaviors."""
    behaviors = folder.tables / "behaviors"
    return EventLog.open(folder.tables / "events"), BehaviorLog.open(behaviors) if behaviors.exists() else None


def ingest(folder: RunFolder, experiment: Experiment, data: Path | None, progress: Callable[[int], None]) -> int:
    """Write the log into the run's tables, all or nothing; return its rows, 0 when it was there already.

    `progress` is told the rows written so far. Raises UserError for anything wrong with the input, also when the log cannot
    be scored as the experiment says.
    """
    if folder.tables.exists():
        return 0
    log = open_log(experiment.data, data)
    log.schema.check_group(experiment.evaluate.group)
    part = folder.root / "tables.part"
    shutil.rmtree(part, ignore_errors=True)
    try:
        rows = _write(part, log, progress)
        part.rename(folder.tables)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return rows


def _write(part: Path, log: Log, progress: Callable[[int], None]) -> int:
    events = EventLog.create(part / "events", log.schema)
    rows = 0
    for sequence, chunk in enumerate(log.batches()):
        events.append(chunk, writer="ingest", sequence=sequence, source=log.source, new_ids=True)  # readers see to it
        rows += len(chunk)
        progress(rows)
    if not rows:
        raise UserError(f"{log.source}: the log has no rows")
    if log.behaviors is not None:
        behaviors = BehaviorLog.create(part / "behaviors", log.schema)
        for sequence, chunk in enumerate(log.behaviors()):
            behaviors.append(chunk, writer="ingest", sequence=sequence, source=log.source)
    return rows

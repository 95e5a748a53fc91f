"""A log that changed since it was read: what follows the rows of the run is taken over, where those are the same.

    the log now    = row by row the tables of the run =    | new rows |
    tables.part    the tables (links to their files)       | appended |   --> the models go --> tables.part is tables

Whether they are the same is not reasoned but read: the whole log is, as for a new run. So whatever an experiment asks
for (a limit, sorted rows, sampled negatives), the tables are those of a new run of the log as it is now. A process that
is killed leaves the tables as they were, with or without the models, or none at all, and the command is run again.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import polars as pl

from recdistill.data.readers.base import Log
from recdistill.data.readers.first_rows import with_scales
from recdistill.data.store.frozen_vectors import VECTORS, FrozenVectors, added_ids, open_vectors, write_vectors
from recdistill.data.store.memmap import write_json
from recdistill.runs.folder import NOTES_FILE, RunFolder
from recdistill.storage.location import local_path
from recdistill.tables.events import BehaviorLog, EventLog
from recdistill.tables.predictions import PredictionLog

__all__ = ["OLD", "Differs", "beyond", "take_over"]

OLD = "tables.old"  # while the grown ones take their place


class Differs(Exception):
    """Why a log is none that goes on where a run's tables end, as the end of a sentence."""


def take_over(
    folder: RunFolder, log: Log, progress: Callable[[int], None], check: Callable[[], None]
) -> tuple[int, int, int]:
    """Return how many rows and behaviors of `log` follow those of the run's tables, and how many ids have a vector that
    had none. The tables hold them afterwards; what was learned from these is then gone. `check` is called before
    anything changes.

    Raises Differs, or UserError for anything wrong with the new rows; then everything stays as it was.
    """
    if not isinstance(folder.root, Path):
        raise Differs("a run in an object store does not follow it")
    if folder.predictions.exists() and any(
        kind == "imported" for _, _, kind, _ in PredictionLog.open(folder.predictions).models()
    ):
        raise Differs("its teacher's predictions were imported for the rows as they were")
    part = folder.here / "tables.part"
    for left in (part, folder.here / OLD):
        shutil.rmtree(left, ignore_errors=True)
    try:
        shutil.copytree(local_path(folder.tables), part, copy_function=_linked)
        rows = _extend_events(EventLog.open(part / "events"), log, progress)
        actions = _extend_behaviors(part / "behaviors", log)
        vectors = _extend_vectors(part, log)
        check()
        if rows or actions or vectors:
            write_json(part / NOTES_FILE, log.notes())
            _replace(folder, part)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return rows, actions, vectors


def _linked(source: str, target: str) -> None:
    """Give a file of a Delta table another name, or copy it where the disk knows no links; nobody writes into one."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def _replace(folder: RunFolder, part: Path) -> None:
    """Let `part` be the run's tables, and drop what was made of them as they were."""
    folder.forget()
    old = folder.here / OLD
    tables = local_path(folder.tables)
    tables.rename(old)
    part.rename(tables)
    shutil.rmtree(old)


def _extend_events(events: EventLog, log: Log, progress: Callable[[int], None]) -> int:
    schema, chunks = with_scales(log)
    if schema != events.schema:
        scales = (schema.edges, schema.scales) != (events.schema.edges, events.schema.scales)
        raise Differs(
            "its first rows give the numeric features other buckets or scales"
            if scales
            else "its columns or their types differ"
        )
    rows, first = 0, events.last_sequence("ingest") + 1
    for sequence, chunk in enumerate(beyond(chunks, events.batches(), list(schema.columns())), first):
        events.append(chunk, writer="ingest", sequence=sequence, source=log.source, new_ids=True)
        rows += len(chunk)
        progress(rows)
    return rows


def _extend_behaviors(path: Path, log: Log) -> int:
    if log.behaviors is None:
        return 0
    behaviors = BehaviorLog.open(path)
    rows, first = 0, behaviors.last_sequence("ingest") + 1
    for sequence, chunk in enumerate(beyond(log.behaviors(), behaviors.batches(), list(behaviors.types)), first):
        behaviors.append(chunk, writer="ingest", sequence=sequence, source=log.source)
        rows += len(chunk)
    return rows


def _extend_vectors(part: Path, log: Log) -> int:
    """Write the vectors anew, as new ids are placed among those known where an id has several; Differs unless the
    known ones are as they were.
    """
    now, known = part / f"{VECTORS}.now", open_vectors(part / VECTORS, log.schema)
    write_vectors(now, log.vectors)
    ids = 0
    for side, vectors in known.items():
        added = added_ids(vectors, FrozenVectors(now, side))
        if added is None:
            raise Differs(f"a vector of its {side}s is not the one that the run has read")
        ids += added
    if known:
        shutil.rmtree(part / VECTORS)
        now.rename(part / VECTORS)
    return ids


def beyond(chunks: Iterable[pl.DataFrame], known: Iterator[pl.DataFrame], names: list[str]) -> Iterator[pl.DataFrame]:
    """Yield, in the columns `names`, the rows of `chunks` that follow those of `known`; memory: a chunk of each.

    Raises Differs where a row before them is another, or there are fewer.
    """
    same, held = 0, pl.DataFrame()
    for whole in chunks:
        chunk = whole.select(names)
        while len(chunk) and len(held := held if len(held) else _next(known, names)):
            rows = min(len(chunk), len(held))
            if not chunk.head(rows).equals(held.head(rows)):
                raise Differs(f"its rows {same + 1:,} to {same + rows:,} are not those that the run has read")
            same, chunk, held = same + rows, chunk.slice(rows), held.slice(rows)
        if len(chunk):
            yield chunk
    if len(held) or len(_next(known, names)):
        raise Differs(f"it ends after row {same:,}, where the run has read more")


def _next(known: Iterator[pl.DataFrame], names: list[str]) -> pl.DataFrame:
    """Return the next rows, none at the end."""
    return next((rows.select(names) for rows in known if len(rows)), pl.DataFrame())

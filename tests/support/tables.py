"""Small rows for the tables, and real second processes that write them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta

import polars as pl

from recdistill.storage.location import Location
from recdistill.tables.dead_letters import COLUMNS as DEAD_LETTERS
from recdistill.tables.delta.log import DeltaLog
from recdistill.tables.events import EventLog
from recdistill.tables.predictions import PredictionLog
from recdistill.tables.schema import EventSchema
from recdistill.tables.verdicts import VerdictLog
from tests.support.paths import ROOT

__all__ = [
    "ROOT",
    "SCHEMA",
    "actions",
    "dead_letters",
    "events",
    "followed",
    "ids_of",
    "logit",
    "make_events",
    "make_predictions",
    "outcomes",
    "process",
    "predicted",
    "verdicts",
]

SCHEMA = EventSchema(tasks=("click",), features={"device": "int64", "tags": "list<string>"})
START = datetime(2024, 1, 1, tzinfo=UTC)
PER_DAY = 10  # sample ids per date


def _times(ids: Sequence[int]) -> pl.Series:
    return pl.Series(
        [START + timedelta(days=k // PER_DAY, seconds=k % PER_DAY) for k in ids], dtype=pl.Datetime("us", "UTC")
    )


def events(ids: Iterable[int], label: float = 1.0) -> pl.DataFrame:
    """Return one sample per id; sample k happens on day k // PER_DAY."""
    ids = list(ids)
    return pl.DataFrame(
        {
            "sample_id": pl.Series(ids, dtype=pl.Int64),
            "time": _times(ids),
            "user_id": pl.Series([k % 3 for k in ids], dtype=pl.Int64),
            "item_id": pl.Series([k % 5 for k in ids], dtype=pl.Int64),
            "feature_device": pl.Series([7 for _ in ids], dtype=pl.Int64),
            "feature_tags": pl.Series([["a", str(k)] for k in ids], dtype=pl.List(pl.String)),
            "label_click": pl.Series([label for _ in ids], dtype=pl.Float32),
        }
    )


def logit(ids: pl.Series) -> pl.Series:
    """Return the logit that a model always gives these ids."""
    return (ids * 0.5 - 7).cast(pl.Float32).alias("logit_click")


def predicted(ids: Iterable[int]) -> pl.DataFrame:
    """Return predictions with logit = f(id)."""
    rows = events(ids).select("sample_id", "time")
    return rows.with_columns(logit(rows["sample_id"]))


def actions(ids: Iterable[int]) -> pl.DataFrame:
    """Return one action per id; the id is the user's."""
    ids = list(ids)
    return pl.DataFrame(
        {
            "user_id": pl.Series(ids, dtype=pl.Int64),
            "item_id": pl.Series([k % 5 for k in ids], dtype=pl.Int64),
            "time": _times(ids),
            "action": pl.Series(["click" for _ in ids], dtype=pl.String),
        }
    )


def outcomes(ids: Iterable[int]) -> pl.DataFrame:
    """Return one outcome per id."""
    ids = list(ids)
    return pl.DataFrame(
        {
            "sample_id": pl.Series(ids, dtype=pl.Int64),
            "task": pl.Series(["click" for _ in ids], dtype=pl.String),
            "label": pl.Series([1.0 for _ in ids], dtype=pl.Float32),
            "time": _times(ids),
        }
    )


def verdicts(ids: Iterable[int]) -> pl.DataFrame:
    """Return one verdict per id; the id is the number of rows."""
    ids = list(ids)
    rows = [VerdictLog.row("teacher", 1, "approved", rows=k).drop("time") for k in ids]
    return pl.concat([VerdictLog.row("", 0, "approved").head(0).drop("time"), *rows]).with_columns(
        _times(ids).alias("time")
    )


def dead_letters(ids: Iterable[int]) -> pl.DataFrame:
    """Return one dead letter per id; the id is the number of rows."""
    ids = list(ids)
    return pl.DataFrame(
        {
            "time": _times(ids),
            "source": ["events" for _ in ids],
            "kind": ["events" for _ in ids],
            "position": ids,
            "reason": ["" for _ in ids],
            "rows": ids,
            "payload": [b"" for _ in ids],
        },
        schema=DEAD_LETTERS,
    )


def make_events(path: Location, commits: Iterable[Iterable[int]] = ()) -> EventLog:
    """Return an events table with one commit of writer "w" per group of ids."""
    log = EventLog.create(path, SCHEMA)
    for sequence, ids in enumerate(commits):
        log.append(events(ids), writer="w", sequence=sequence)
    return log


def make_predictions(path: Location, commits: Iterable[Iterable[int]] = (), model: str = "teacher") -> PredictionLog:
    """Return a predictions table with one commit of `model` per group of ids."""
    log = PredictionLog.create(path, SCHEMA.tasks)
    for sequence, ids in enumerate(commits):
        log.append(predicted(ids), model=model, version=1, kind="prequential", writer=model, sequence=sequence)
    return log


def followed(log: DeltaLog, after: int) -> Iterator[pl.DataFrame]:
    """Yield the rows of each commit after a version, as whoever follows the table reads them."""
    return (log.read(commit) for commit in log.commits(after))


def ids_of(frames: Iterable[pl.DataFrame]) -> list[int]:
    """Return the sample ids of all frames, the user ids of actions, or the numbers of verdicts, in order."""
    return [
        k
        for rows in frames
        for k in rows[next(name for name in ("sample_id", "user_id", "rows") if name in rows.columns)].to_list()
    ]


def process(code: str, *words: object) -> subprocess.Popen[str]:
    """Start `code` in a second process; it finds `words` in sys.argv[1:], and the log of argv[1] as `log`."""
    head = (
        "import sys\nfrom recdistill.storage.location import location\nfrom recdistill.tables.events import EventLog\n"
        "from tests.support.tables import events\nlog = EventLog.open(location(sys.argv[1]))\n"
    )
    return subprocess.Popen(
        [sys.executable, "-c", head + code, *map(str, words)],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )

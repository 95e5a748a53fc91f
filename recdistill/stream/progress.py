"""The progress that each process of a stream reports in its own commits: how far it is, what it dropped, how it fares.

The processes share nothing but the tables, so this is also all that the live page, the metrics and the next start read.
"""

from __future__ import annotations

import json
import os
import resource
from dataclasses import asdict, dataclass, field, fields
from typing import Any, TypeVar

__all__ = ["GateProgress", "Health", "IngestProgress", "ModelProgress", "Sums", "read_progress", "to_metadata"]

KEY = "stream"
T = TypeVar("T")


@dataclass(frozen=True)
class Health:
    """wall: seconds since 1970; rss: bytes of memory in use; handles: open files."""

    wall: float = 0.0
    rss: int = 0
    handles: int = 0

    @classmethod
    def now(cls, wall: float) -> Health:
        """Return this process's."""
        with open("/proc/self/statm", encoding="ascii") as file:
            rss = int(file.read().split()[1]) * resource.getpagesize()
        return cls(wall, rss, len(os.listdir("/proc/self/fd")))


@dataclass(frozen=True)
class IngestProgress:
    """Of a commit of `ingest`: everything of this table's kind before `offsets` (partition -> next position) is in.

    seen: versions of the other tables (behaviors, outcomes) at this commit; a follower reads them up to there first.
    watermark: newest event time so far, us. rows: rows taken since the hand-over. dropped: rows by cause since then.
    published: wall seconds at which the newest row left its producer, 0 if unknown. end: the source has ended. reader:
    which of the `readers` processes reports this, each of its own partitions.
    """

    offsets: dict[str, int] = field(default_factory=dict)
    seen: dict[str, int] = field(default_factory=dict)
    watermark: int = 0
    rows: int = 0
    dropped: dict[str, int] = field(default_factory=dict)
    published: float = 0.0
    end: bool = False
    health: Health = Health()
    reader: int = 0
    readers: int = 1


@dataclass(frozen=True)
class Sums:
    """Running sums since the hand-over, first task: a window's figures are differences of two commits' sums.

    labels: rows whose label was known; positives, predicted (sum of probabilities), logloss over these. signals: rows
    learned with a teacher's signal; learned: rows learned. waiting: wall seconds from a row's arrival to its learning.
    """

    labels: float = 0.0
    positives: float = 0.0
    predicted: float = 0.0
    logloss: float = 0.0
    learned: float = 0.0
    signals: float = 0.0
    waiting: float = 0.0


@dataclass(frozen=True)
class ModelProgress:
    """Of a commit of a model that follows the tables.

    events: version of the events table that it has read up to. rows: rows it recorded since the hand-over. watermark:
    event time of the last of them, us. missing: rows learned without a signal, by cause (quarantined, late, absent),
    and signals without use (late, unknown). lag: the largest number of seconds, over the rows learned since the last
    commit, from when a row left its producer until it was in the weights. weights_version: the model's version.
    """

    events: int = -1
    rows: int = 0
    watermark: int = 0
    weights_version: int = 0
    sums: Sums = Sums()
    missing: dict[str, int] = field(default_factory=dict)
    pending: int = 0  # rows waiting for a label or a signal
    lag: float = 0.0
    end: bool = False
    health: Health = Health()


@dataclass(frozen=True)
class GateProgress:
    """Of a commit of the gate: version of the predictions table judged up to, and the windows judged so far."""

    predictions: int = -1
    judged: int = 0
    end: bool = False
    health: Health = Health()


def to_metadata(progress: IngestProgress | ModelProgress | GateProgress) -> dict[str, str]:
    """Return the commit's metadata."""
    return {KEY: json.dumps(asdict(progress), sort_keys=True)}


def read_progress(kind: type[T], metadata: dict[str, str]) -> T | None:
    """Return what `to_metadata` wrote into a commit, None when it is not there."""
    return _read(kind, json.loads(metadata[KEY])) if KEY in metadata else None


def _read(kind: type[T], tree: dict[str, Any]) -> T:
    nested = {"health": Health, "sums": Sums}
    known = {one.name for one in fields(kind)}  # type: ignore[arg-type]
    return kind(
        **{key: _read(nested[key], value) if key in nested else value for key, value in tree.items() if key in known}
    )

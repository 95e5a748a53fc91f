"""Which samples are taken: none with a fault, none too late, none twice, none whose id was another sample's. Decided in
order of arrival, however micro-batches are cut.
"""

from __future__ import annotations

import numpy as np
import polars as pl

from recdistill.stream.ingest.dedupe import Recent, label_codes
from recdistill.stream.ingest.earlier import NEVER, Earlier
from recdistill.stream.ingest.row_checks import row_faults
from recdistill.tables.delta.commits import open_delta, parts_of
from recdistill.tables.delta.files import read_parts
from recdistill.tables.events import EventLog
from recdistill.typing import Array

__all__ = ["NEVER", "AdmissionFilter"]

RELABELLED, LATE, AGAIN = (
    "column 'sample_id': is in the table with another label",
    "column 'time': more than stream.late_s behind the newest",
    "column 'sample_id': is that of a sample of more than stream.late_s before; let each sample have an id of its own",
)


class AdmissionFilter:
    """late_s: event seconds behind the newest time (the watermark, us) that a sample may be; ids are
    remembered as long.
    """

    def __init__(self, events: EventLog, late_s: float, watermark: int) -> None:
        self.schema, self.late = events.schema, round(min(late_s, 1e11) * 1e6)
        self.tasks = self.schema.tasks
        self.recent, self.earlier = Recent(self.late), Earlier(events, self.late)
        self.watermark = self._read_back(events, watermark)

    def _read_back(self, events: EventLog, watermark: int) -> int:
        """Read back the samples within the bound; return the watermark: the given one, or the newest time
        where it is 0.
        """
        parts = parts_of(open_delta(events.path))
        if not watermark and parts:
            last = max(part.newest or 0 for part in parts)
            newest = [part for part in parts if part.may_hold_times(last, last)]
            watermark = max(
                int(rows["time"].to_physical().to_numpy().max())
                for rows in read_parts(events.path, newest, {"time": events.types["time"]}, None)
            )
        near = [part for part in parts if part.may_hold_times(watermark - self.late, -NEVER)]
        types = {name: events.types[name] for name in ("sample_id", "time", *(f"label_{task}" for task in self.tasks))}
        for rows in read_parts(events.path, near, types, None):
            self.remember(rows)
        self.recent.forget(watermark)
        return watermark or NEVER

    def remember(self, rows: pl.DataFrame) -> None:
        """Remember samples that are in the table: sample_id, time, labels."""
        self.recent.add(
            rows["sample_id"].to_numpy(), rows["time"].to_physical().to_numpy(), label_codes(rows, self.tasks)
        )

    def split(self, rows: pl.DataFrame) -> tuple[Array, pl.Series, dict[str, int]]:
        """Return (bool [n]: what is taken, reasons of the others, null for duplicates, rows dropped by
        cause); remember them.
        """
        faults = row_faults(rows, "events", self.schema)
        valid = faults.is_null().to_numpy()
        times = rows["time"].to_physical().fill_null(NEVER).to_numpy()
        newest = np.maximum.accumulate(np.concatenate(([self.watermark], np.where(valid, times, NEVER))))
        late = valid & (times < newest[:-1] - self.late)
        ids, codes = rows["sample_id"].fill_null(0).to_numpy(), np.full(len(rows), -1, np.int16)
        codes[valid] = label_codes(rows.filter(valid), self.tasks)
        self.earlier.follow(self.watermark)
        again = np.zeros(len(rows), bool)
        again[valid & ~late] = self.earlier.holds(ids[valid & ~late])
        known, twice = self._known(ids, codes, valid & ~late & ~again)
        other = twice & (known != codes)
        taken = valid & ~late & ~again & ~twice
        self.recent.add(ids[taken], times[taken], codes[taken])
        self.watermark = int(newest[-1])
        self.recent.forget(self.watermark)
        reasons = (
            faults.to_frame()
            .select(
                pl.when(pl.Series(late))
                .then(pl.lit(LATE))
                .when(pl.Series(again))
                .then(pl.lit(AGAIN))
                .when(pl.Series(other))
                .then(pl.lit(RELABELLED))
                .otherwise(pl.col("reason"))
                .alias("reason")
            )
            .to_series()
        )
        dropped = {"invalid": ~valid, "late": late, "again": again, "relabelled": other, "duplicate": twice & ~other}
        return taken, reasons, {cause: int(which.sum()) for cause, which in dropped.items()}

    def _known(self, ids: Array, codes: Array, which: Array) -> tuple[Array, Array]:
        """Return ([n] label code first seen with each id, bool [n]: of `which`, ids seen before, here or earlier)."""
        known, twice = np.full(len(ids), -1, np.int16), np.zeros(len(ids), bool)
        mine = np.flatnonzero(which)
        before = self.recent.find(ids[mine])
        _, first, of = np.unique(ids[mine], return_index=True, return_inverse=True)
        known[mine] = np.where(before >= 0, before, codes[mine][first[of]])
        twice[mine] = (before >= 0) | (first[of] != np.arange(len(mine)))
        return known, twice

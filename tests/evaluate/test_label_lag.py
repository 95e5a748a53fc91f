"""By how much labels lag, counted one by one; and what is said of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from recdistill.data.store.label_order import LabelClock
from recdistill.data.store.sample_store import build_store
from recdistill.evaluate.label_lag import LabelLag, label_lag, lag_sentence
from recdistill.tables.events import EventLog
from recdistill.tables.schema import EventSchema

HOUR = 3_600
DELAYS = [0, 600, 1200, None, 2 * HOUR, 600]  # seconds; None: a negative without a time
LABELS = [1, 1, 1, 0, 1, 1]


def lag_of(folder: Path, clock: LabelClock, labels: list[int], delays: list[int | None]) -> list[LabelLag]:
    """Return the lag of a log with a sample every ten minutes."""
    time = 1_700_000_000 + np.arange(len(labels)) * 600
    known = [None if delay is None else int(at) + delay for at, delay in zip(time, delays, strict=True)]
    stamps = {"time": time, "label_time_click": known}
    rows = pl.DataFrame({"sample_id": np.arange(len(labels)), "label_click": labels, **stamps}).with_columns(
        pl.col("label_click").cast(pl.Float32),
        pl.lit(1, pl.Int64).alias("user_id"),
        pl.lit(2, pl.Int64).alias("item_id"),
        *((pl.col(name).cast(pl.Int64) * 1_000_000).cast(pl.Datetime("us", "UTC")) for name in stamps),
    )
    log = EventLog.create(folder / "events", EventSchema(("click",), label_times=("click",)))
    log.append(rows.select(list(log.schema.columns())), writer="test", sequence=0)
    build_store(folder / "store", log, None, clock=clock)
    return label_lag(folder / "store")


def test_without_a_window_labels_count_at_their_own_times(tmp_path: Path) -> None:
    (one,) = lag_of(tmp_path, LabelClock(), [1, 0, 1, 0], [0, 600, 1200, 600])
    assert (one.labels, one.median_s, one.window_s) == (4, 600, None)
    assert one.after_end == 2  # the last two are known at 40 minutes, the log ends at 30
    assert "2 samples' labels count only after the log's end" in lag_sentence([one])


def test_with_a_window_samples_count_when_it_ends(tmp_path: Path) -> None:
    (one,) = lag_of(tmp_path, LabelClock(HOUR // 3 * 1_000_000), LABELS, DELAYS)
    assert (one.labels, one.window_s) == (5, HOUR / 3)  # of the positives alone
    assert one.median_s == pytest.approx(600)
    assert one.after_end == 3  # samples of the last 20 minutes, positive or not
    assert "a sample is learned when its window of 20 min ends" in lag_sentence([one])


def test_labels_known_with_their_samples_are_called_so(tmp_path: Path) -> None:
    found = lag_of(tmp_path, LabelClock(), [1, 0], [0, 0])
    assert found == [] and "outcomes count at once" in lag_sentence(found)

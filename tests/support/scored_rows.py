"""A small log of events and recorded predictions, for the tests of evaluate/."""

from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl

from recdistill.tables.events import EventLog
from recdistill.tables.schema import EventSchema

START = datetime(2024, 5, 1, tzinfo=UTC)
TIME = pl.Datetime("us", "UTC")


def events_of(path, rows, has_request=False):
    """Return a table of `rows`: lists by column, features of text too, one minute apart, committed in two parts."""
    n, features = len(rows["user_id"]), [name for name in rows if name.startswith("feature_")]
    frame = pl.DataFrame(
        {
            "sample_id": np.arange(n)[::-1] * 7,  # neither sorted nor dense
            "time": pl.Series([START + timedelta(minutes=i) for i in range(n)], dtype=TIME),
            "user_id": rows["user_id"],
            "item_id": rows.get("item_id", [0] * n),
            **({"request_id": pl.Series(rows["request_id"], dtype=pl.Int64)} if has_request else {}),
            **{name: pl.Series(rows[name], dtype=pl.String) for name in features},
            "label_click": pl.Series(rows["label"], dtype=pl.Float32),
        }
    )
    texts = {name.removeprefix("feature_"): "string" for name in features}
    log = EventLog.create(path / "events", EventSchema(("click",), texts, has_request=has_request))
    for sequence, part in enumerate((frame[: n // 3], frame[n // 3 :])):
        log.append(part, writer="test", sequence=sequence)
    return log, frame


def record(log, frame, model, logit, sequence=0):
    rows = frame.select("sample_id", "time").with_columns(logit_click=pl.Series(logit, dtype=pl.Float32))
    log.append(rows, model=model, version=0, kind="prequential", writer=model, sequence=sequence)

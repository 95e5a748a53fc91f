"""Buckets are chosen from the log's first rows alone, whatever its chunks, and no row is lost or read twice."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recdistill.data.buckets import fitted_edges
from recdistill.data.readers import first_rows
from recdistill.data.readers.base import Log
from recdistill.data.scales import fitted_scale
from recdistill.tables.schema import EventSchema

SCHEMA = EventSchema(("click",), {"device": "string", "rate": "float32"})


def log_of(rows: pl.DataFrame, cuts: list[int], schema: EventSchema = SCHEMA) -> Log:
    """Return a log whose chunks end at `cuts`; its rows can be had once."""
    ends = [0, *sorted(min(cut, len(rows)) for cut in cuts), len(rows)]
    once = iter([rows[low:high] for low, high in zip(ends, ends[1:], strict=False)])

    def batches() -> Iterator[pl.DataFrame]:
        return once

    return Log(schema, batches, None, "here")


@given(st.lists(st.floats(width=32) | st.none(), max_size=80), st.lists(st.integers(0, 80), max_size=4))
def test_the_first_tenth_of_the_rows_looked_at_decides(values: list[float | None], cuts: list[int]) -> None:
    rows = pl.DataFrame(
        {"feature_rate": pl.Series(values, dtype=pl.Float32), "feature_device": pl.Series(["a"] * len(values))}
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(first_rows, "LOOKED_AT", 40)
        schema, chunks = first_rows.with_scales(log_of(rows, cuts))
    seen = pl.concat([rows.clear(), *chunks])
    assert seen.equals(rows, null_equal=True)
    first = np.array([np.nan if value is None else value for value in values[: max(min(len(values), 40) // 10, 1)]])
    assert schema.edges == {"rate": fitted_edges(first)} and schema.scales == {"rate": fitted_scale(first)}


def test_a_log_without_numbers_is_left_as_it_is() -> None:
    schema, chunks = first_rows.with_scales(
        log_of(pl.DataFrame({"feature_device": ["a"]}), [], EventSchema(("click",)))
    )
    assert schema.edges == {} and sum(map(len, chunks)) == 1

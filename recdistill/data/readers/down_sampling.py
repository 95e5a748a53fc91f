"""A log down-sampled on its way in."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import polars as pl

from recdistill.config.data import SamplingConfig
from recdistill.data.readers.base import Log
from recdistill.data.sampling import INGEST_SEED, kept
from recdistill.tables.schema import EventSchema

__all__ = ["down_sampled"]


def down_sampled(log: Log, sampling: SamplingConfig) -> Log:
    """Return the log with a share of its samples, by the first task's label; its keep rates are multiplied
    by `sampling`'s.
    """
    task = log.schema.tasks[0]
    positive, negative = log.schema.keep_rates.get(task, (1.0, 1.0))
    rates = {**log.schema.keep_rates, task: (positive * sampling.positive, negative * sampling.negative)}

    def batches() -> Iterator[pl.DataFrame]:
        for chunk in log.batches():
            label = chunk[f"label_{task}"].fill_null(np.nan).to_numpy()
            left = chunk.filter(
                pl.Series(kept(chunk["sample_id"].to_numpy(), label, sampling, INGEST_SEED), dtype=pl.Boolean)
            )
            if len(left):
                yield left

    schema: EventSchema = replace(log.schema, keep_rates=rates)
    return replace(log, schema=schema, batches=batches)

"""Which samples are cross-fitted, and in which fold each of them is."""

from __future__ import annotations

import numpy as np

from recdistill.config.experiment import Experiment
from recdistill.config.models import CrossfitConfig
from recdistill.data.sampling import uniform
from recdistill.data.store.sample_store import SampleStore
from recdistill.runs.batch_ingest import handed_over
from recdistill.runs.folder import RunFolder
from recdistill.tables.events import EventLog
from recdistill.typing import Array

__all__ = ["crossfit_rows", "folds_of"]


SEED = 11  # of the draw of folds


def crossfit_rows(folder: RunFolder, experiment: Experiment, rows: int) -> int:
    """Return how many of the store's first rows take part in cross-fitting: all of a stream's batch phase,
    none where no student uses it.
    """
    if not experiment.crossfits:
        return 0
    streams = handed_over(EventLog.open(folder.tables / "events")) is not None
    return rows if streams else int(experiment.crossfit.share * rows)


def folds_of(store: SampleStore, rows: int, config: CrossfitConfig) -> Array:
    """Return int64 [rows]: the fold of each of the first samples, by sample id, user, or time in blocks of
    equal size.
    """
    if config.by == "time":
        return np.arange(rows) * config.folds // max(rows, 1)
    keys = store.sample_id[:rows] if config.by == "sample" else store.user[:rows]
    return np.asarray((uniform(np.asarray(keys, np.int64), SEED) * config.folds).astype(np.int64))

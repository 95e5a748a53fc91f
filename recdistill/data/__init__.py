"""Rows to tensors: ids, histories, batches, sampling, readers of public data sets, the simulator."""

from recdistill.data.batch import AGES, Batch, History, Lookup
from recdistill.data.builder import BatchBuilder, dedupe, prefetch
from recdistill.data.store import SampleStore, build_store

__all__ = ["AGES", "Batch", "BatchBuilder", "History", "Lookup", "SampleStore", "build_store", "dedupe", "prefetch"]

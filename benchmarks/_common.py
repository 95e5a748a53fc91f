"""What the benchmarks share: a log made with numpy, the store over it, students, and how a ratio is
measured and reported.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from rich.console import Console
from rich.table import Table

from recdistill.config.models import DistillConfig, StudentConfig
from recdistill.data.batch.batch import Batch
from recdistill.data.batch.builder import BatchBuilder
from recdistill.data.store.sample_store import SampleStore, build_store
from recdistill.models.embeddings.growable import TableOptions
from recdistill.models.factory import build_backbone
from recdistill.models.heads import Towers
from recdistill.tables.events import EventLog
from recdistill.tables.schema import EventSchema
from recdistill.train.learner import Learner

__all__ = ["SCHEMA", "batches_of", "event_chunks", "learner_of", "paired", "store_of", "report"]

SCHEMA = EventSchema(tasks=("click",), features={"device": "int64", "country": "int64"})
CHUNK = 50_000
torch.set_num_threads(1)  # as training does: models side by side use the cores
START = 1_700_000_000_000_000  # us


def event_chunks(rows: int, users: int, items: int, seed: int = 0, candidates: int = 1) -> Iterator[pl.DataFrame]:
    """Yield a log in time order: one request a second, `candidates` samples each, items drawn by Zipf's law."""
    popular = 1.0 / np.arange(1, items + 1)
    edges = np.cumsum(popular / popular.sum())
    for at in range(0, rows, CHUNK):
        draw = np.random.default_rng((seed, at))
        n = min(CHUNK, rows - at)
        request = (at + np.arange(n)) // candidates
        user = request * 0x9E3779B1 % 2**32 % users  # any user, the same one for the whole request
        yield pl.DataFrame(
            {
                "sample_id": at + np.arange(n),
                "time": pl.Series(START + request * 1_000_000).cast(pl.Datetime("us", "UTC")),
                "user_id": user,
                "item_id": np.minimum(np.searchsorted(edges, draw.random(n)), items - 1),
                "feature_device": user % 4,
                "feature_country": user % 29,
                "label_click": (draw.random(n) < 0.2).astype(np.float32),
            }
        )


def store_of(folder: Path, rows: int, users: int, items: int, candidates: int = 1) -> SampleStore:
    """Ingest such a log into `folder` and return the store over it."""
    log = EventLog.create(folder / "events", SCHEMA)
    for sequence, chunk in enumerate(event_chunks(rows, users, items, candidates=candidates)):
        log.append(chunk, writer="benchmark", sequence=sequence)
    return build_store(folder / "store", log, None)


def learner_of(
    store: SampleStore, config: StudentConfig, distill: DistillConfig | None, teacher_hidden: int = 0
) -> Learner:
    """Return a student as a run would build it; without `distill` one tower that learns from labels alone.

    teacher_hidden: width of the teacher's hidden states that it reads, 0: none.
    """
    torch.manual_seed(0)
    backbone = build_backbone(
        config.kind,
        width=config.width,
        fields=store.context.shape[1],
        slots=store.lists.shape[1],
        actions=store.actions,
        length=config.history,
        tables=TableOptions(0, config.table_rate, config.optimiser),
        options=dict(config.options),
    )
    two = distill is not None and distill.towers != "single"
    network = Towers(
        backbone,
        len(store.tasks),
        layout="decoupled" if two else "single",
        teacher_hidden=teacher_hidden,
        adapted=distill is not None and distill.adapter is not None,
    )
    return Learner(network, config, distill, tasks=store.tasks)


def batches_of(store: SampleStore, builder: BatchBuilder, size: int, first: int, count: int) -> list[Batch]:
    """Return `count` batches of `size` rows from row `first` on."""
    return [builder.build(np.arange(first + k * size, first + (k + 1) * size)) for k in range(count)]


def paired(one: Callable[[int], Any], other: Callable[[int], Any], count: int) -> tuple[float, float, float]:
    """Call both for k = 0 .. count - 1, alternately; return median seconds of each, and median of other / one.

    The ratio is taken pair by pair, so that whatever slows the machine for a while slows both sides of a pair.
    """
    first, second = [], []
    for k in range(count):
        for call, seconds in ((one, first), (other, second)) if k % 2 else ((other, second), (one, first)):
            start = time.perf_counter()
            call(k)
            seconds.append(time.perf_counter() - start)
    ratios = [b / a for a, b in zip(first, second, strict=True)]
    return statistics.median(first), statistics.median(second), statistics.median(ratios)


def report(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], met: bool, budget: str) -> int:
    """Print the table and whether the budget was met; return the exit code, 0 when it was."""
    console = Console(width=120)
    table = Table(*columns, title=title)
    for row in rows:
        table.add_row(*row)
    console.print(table)
    console.print(f"budget {budget}: {'met' if met else 'MISSED'}; {torch.get_num_threads()} torch threads")
    return 0 if met else 1

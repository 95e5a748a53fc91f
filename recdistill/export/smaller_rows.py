"""An artefact's rows made smaller, and what that costs: the scores of both on the run's own window.

The dense part stays float32: quantised as well (onnxruntime's dynamic quantisation) it saves some ten thousand bytes
where rows are millions, was now slower and now faster, and moved logits ten times as far as int8 rows did.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from torch import Tensor, nn

from recdistill.data.batch.builder import BatchBuilder
from recdistill.data.store.memmap import open_column
from recdistill.data.store.sample_store import SampleStore
from recdistill.errors import UserError
from recdistill.evaluate import metrics
from recdistill.evaluate.window import requests_of
from recdistill.export.pack_rows import lengths, pack, rows_kept
from recdistill.models.embeddings.growable import GrowableTable
from recdistill.models.factory import table_modules
from recdistill.serve.rows import SmallerRows, TableRows, open_rows, table_number
from recdistill.train.predict import Predictor
from recdistill.typing import Array

__all__ = ["cost_lines", "costs", "leave_out_absent", "made_smaller", "shrink", "twin_of", "window_rows"]

ROWS = 50_000  # scored, of the window's last


def cost_lines(cost: dict[str, Any]) -> list[str]:
    """Return in words what stands in a manifest of smaller rows."""
    names = {"auc": "AUC", "gauc": f"GAUC by {cost['group']}", "ne": "NE"}
    scores = ", ".join(f"{shown} {' -> '.join(map(_shown, cost[name]))}" for name, shown in names.items())
    (before, after), (kept, rows) = cost["bytes"], cost["kept"]
    what, share = f"{cost['kind']} rows", "" if kept == rows else f", {kept:,} of {rows:,} rows"
    return [
        f"{what}{share}: {before:,} bytes of rows -> {after:,}; a logit differs by {cost['difference']:.1e} at most",
        f"{what}: {scores}",
        f"{what}: of the last {cost['scored']:,} labelled rows, which these weights have learned: for comparing only",
    ]


def _shown(value: float | None) -> str:
    return "-" if value is None else f"{value:.5f}"


def shrink(folder: Path, tables: Mapping[str, GrowableTable], asked: SmallerRows) -> list[int]:
    """Write the float32 rows of these tables, by their files' names, in a folder again, smaller; return how many
    rows stay and how many there were, the paddings not counted.
    """
    length = [lengths(folder, name) for name in tables]
    seen = [table.seen(len(one)).numpy() for table, one in zip(tables.values(), length, strict=True)]
    keep = rows_kept(length, seen, asked.drop, asked.min_seen)
    for name, one in zip(tables, keep, strict=True):
        pack(folder, name, one, asked.kind)
    return [int(sum(one.sum() - 1 for one in keep)), int(sum((one[1:] >= 0).sum() for one in seen))]


def leave_out_absent(folder: Path, tables: Mapping[str, GrowableTable]) -> None:
    """Write the float32 rows of the tables, by their files' names, in which ids have no row of their own again,
    without those.
    """
    for name, table in tables.items():
        there = table.seen(len(open_column(folder, name))).numpy() >= 0
        if not there.all():
            pack(folder, name, there, "float32")


def made_smaller(
    folder: Path,
    predictor: Predictor,
    tables: Mapping[str, GrowableTable],
    asked: SmallerRows,
    start: float,
    group: str = "user",
) -> tuple[Predictor, dict[str, Any]]:
    """Make a folder's tables smaller; return the predictor that has their rows, and what they cost, see `costs`, with
    kind, kept (rows that stay, all rows) and bytes (before, after).

    start: the share of the log before the scored window; group: user or request, of GAUC. Raises UserError where NE
    rises by more than `asked.max_loss`, and where it cannot be measured.
    """
    name, before = predictor.job.name, _bytes(folder)
    kept = shrink(folder, tables, asked)
    twin = twin_of(predictor, folder, sorted({table_number(file) for file in tables}))
    cost = costs(predictor, twin, window_rows(predictor, start), group)
    if None in cost["ne"]:
        raise UserError(f"{name}: the scored window gives no NE, so what smaller rows cost is unknown; export them all")
    loss = cost["ne"][1] - cost["ne"][0]
    if loss > asked.max_loss:
        raise UserError(
            f"{name}: {asked.kind} rows, {kept[0]:,} of {kept[1]:,}, raise NE by {loss:.2g}, more than "
            f"{asked.max_loss:g}; not published; allow more with --max-loss, or make the rows less small"
        )
    return twin, {"kind": asked.kind, "kept": kept, "bytes": [before, _bytes(folder)], **cost}


def _bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.glob("table_*.npy"))


class _StoredTable(nn.Module):
    """Stands where a table stood, and gives its rows as an artefact has them."""

    def __init__(self, rows: TableRows, table: GrowableTable) -> None:
        super().__init__()
        self.rows, self.width, self.device = rows, table.width, table.device

    def forward(self, unique: Tensor) -> Tensor:
        """Return float32 [U, width]."""
        return torch.from_numpy(np.asarray(self.rows[unique.numpy()])).to(self.device)


def twin_of(predictor: Predictor, folder: Path, tables: Sequence[int]) -> Predictor:
    """Return a predictor with the same network but for the rows of these tables, by number, as a folder has them."""
    network = predictor.learner.network
    every = table_modules(network)
    rows = {number: open_rows(folder, number, every[number].width) for number in tables}
    memo = {id(every[number]): _StoredTable(own, every[number]) for number, own in rows.items()}
    twin, learner = copy.copy(predictor), copy.copy(predictor.learner)
    learner.network = copy.deepcopy(network, memo)
    twin.learner = learner
    return twin


def window_rows(predictor: Predictor, start: float) -> Array:
    """Return int64 [n], the last labelled rows of the store's after the share `start`; UserError for a regression."""
    store, regression = predictor.store, predictor.learner.network.regression
    if regression is not None and regression[0]:
        raise UserError(
            f"{predictor.job.name}: the first task is a regression, which has no NE, so what smaller rows cost is "
            "unknown; export them all"
        )
    first = int(len(store) * start)
    counts = np.isfinite(store.labels[first:, 0]) & (np.asarray(store.weight[first:]) > 0)
    return np.flatnonzero(counts)[-ROWS:] + first


def costs(predictor: Predictor, twin: Predictor, rows: Array, group: str = "user") -> dict[str, Any]:
    """Return what a twin's rows cost on rows of the store: scored, how many; difference, the largest of a logit; auc,
    gauc and ne, each of both; group, user or request, by which gauc is.
    """
    store = predictor.store
    label, by = np.asarray(store.labels[rows, 0], np.float64), _groups(store, rows, group)
    weight = np.asarray(store.weight[rows], np.float64)
    logits = [_logits(one, rows) - predictor.learner.own[0].log_odds_offset for one in (predictor, twin)]
    scores = [metrics.score(label, one, by, weight).values for one in logits]
    return {
        "scored": len(rows),
        "group": group,
        "difference": float(np.abs(logits[0] - logits[1]).max(initial=0.0)),
        **{name: [one[name] for one in scores] for name in ("auc", "gauc", "ne")},
    }


def _groups(store: SampleStore, rows: Array, group: str) -> Array:
    """Return int64 [n], the group of each row of the store, as the scored window has them."""
    user = np.asarray(store.user[rows], np.int64)
    if group == "user":
        return user
    request = pl.Series(np.asarray(store.request[rows])).replace(-1, None)  # see `Encoder.rows`
    return requests_of(pl.DataFrame({"row": rows, "request_id": request}), user)


def _logits(predictor: Predictor, rows: Array) -> Array:
    """Return float32 [n], the first task's logits of rows of the store."""
    size = predictor.job.config.batch
    builder = BatchBuilder.of(predictor.store, predictor.job.config)
    parts = [rows[at : at + size] for at in range(0, len(rows), size)]
    found = [predictor.learner.predict(builder.build(part))[:, 0].numpy() for part in parts]
    return np.concatenate(found) if found else np.zeros(0, np.float32)

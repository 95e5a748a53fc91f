"""Rows as int8, and what that costs: the scores of both on the run's own window.

The dense part stays float32: quantised as well (onnxruntime's dynamic quantisation) it saves some ten thousand bytes
where rows are millions, was now slower and now faster, and moved logits ten times as far as the rows did.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from recdistill.data.batch.builder import BatchBuilder
from recdistill.data.store.memmap import create_column, open_column
from recdistill.errors import UserError
from recdistill.evaluate import metrics
from recdistill.models.embeddings.growable import GrowableTable
from recdistill.models.factory import table_modules
from recdistill.serve.rows import Int8Rows, int8_of, open_rows
from recdistill.train.predict import Predictor
from recdistill.typing import Array

__all__ = ["Int8", "int8_lines", "quantise", "quantised"]

ROWS = 50_000  # scored, of the window's last
NARROW = 3  # numbers of a row: with its minimum and step it would be longer than before
CHUNK = 65_536  # rows of a table held at a time


@dataclass(frozen=True)
class Int8:
    """What is asked for. max_loss: the most that NE may rise; start: share of the log before the scored window."""

    max_loss: float
    start: float


def int8_lines(cost: dict[str, Any]) -> list[str]:
    """Return in words what stands in a manifest of int8 rows."""
    names = {"auc": "AUC", "gauc": "GAUC by user", "ne": "NE"}
    scores = ", ".join(f"{shown} {' -> '.join(map(_shown, cost[name]))}" for name, shown in names.items())
    before, after = cost["bytes"]
    return [
        f"int8 rows: {before:,} bytes of rows -> {after:,}; a logit differs by {cost['difference']:.1e} at most",
        f"int8 rows: {scores}",
        f"int8 rows: of the last {cost['rows']:,} labelled rows, which these weights have learned: for comparing only",
    ]


def _shown(value: float | None) -> str:
    return "-" if value is None else f"{value:.5f}"


def quantise(folder: Path, tables: Sequence[int]) -> None:
    """Write the rows of the tables of these numbers in a folder as bytes in the place of float32, where that is
    less.
    """
    for number in tables:
        floats = open_column(folder, f"table_{number}")
        if floats.shape[1] < NARROW:
            continue
        codes = create_column(folder, "codes", floats.shape, "uint8")
        ranges = create_column(folder, f"table_{number}.range", (len(floats), 2), "float32")
        for at in range(0, len(floats), CHUNK):
            codes[at : at + CHUNK], ranges[at : at + CHUNK] = int8_of(floats[at : at + CHUNK])
        (folder / "codes.npy").replace(folder / f"table_{number}.npy")


def quantised(
    folder: Path, predictor: Predictor, tables: Sequence[int], asked: Int8
) -> tuple[Predictor, dict[str, Any]]:
    """Quantise a folder's tables; return the predictor that has their rows, and what they cost: rows, that were scored;
    auc, gauc, ne and bytes, each of float32 rows and of these; difference, the largest of a logit.

    Raises UserError where NE rises by more than `asked.max_loss`, and where it cannot be measured.
    """
    name, before = predictor.job.name, _bytes(folder)
    quantise(folder, tables)
    twin = _twin(predictor, {number: open_rows(folder, number) for number in tables})
    cost = _cost(predictor, twin, asked.start) | {"bytes": [before, _bytes(folder)]}
    if None in cost["ne"]:
        raise UserError(f"{name}: int8: the scored window gives no NE, so what it costs is unknown; leave it out")
    loss = cost["ne"][1] - cost["ne"][0]
    if loss > asked.max_loss:
        raise UserError(
            f"{name}: int8 rows raise NE by {loss:.2g}, more than {asked.max_loss:g}; not published; allow more with "
            "--max-loss, or export without --int8"
        )
    return twin, cost


def _bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.glob("table_*.npy"))


class _Int8Table(nn.Module):
    """Stands where a table stood, and gives the rows that its bytes stand for."""

    def __init__(self, rows: Array | Int8Rows, table: GrowableTable) -> None:
        super().__init__()
        self.rows, self.width, self.device = rows, table.width, table.device

    def forward(self, unique: Tensor) -> Tensor:
        """Return float32 [U, width]."""
        return torch.from_numpy(np.asarray(self.rows[unique.numpy()])).to(self.device)


def _twin(predictor: Predictor, rows: Mapping[int, Array | Int8Rows]) -> Predictor:
    """Return a predictor with the same network but for the rows of these tables, by number."""
    network = predictor.learner.network
    tables = table_modules(network)
    memo = {id(tables[number]): _Int8Table(own, tables[number]) for number, own in rows.items()}
    twin, learner = copy.copy(predictor), copy.copy(predictor.learner)
    learner.network = copy.deepcopy(network, memo)
    twin.learner = learner
    return twin


def _cost(predictor: Predictor, twin: Predictor, start: float) -> dict[str, Any]:
    store, regression = predictor.store, predictor.learner.network.regression
    if regression is not None and regression[0]:
        raise UserError(f"{predictor.job.name}: int8: the first task is a regression, which has no NE; leave it out")
    counts = np.isfinite(store.labels[:, 0]) & (np.asarray(store.weight) > 0)
    rows = np.flatnonzero(counts[int(len(store) * start) :])[-ROWS:] + int(len(store) * start)
    label, user = np.asarray(store.labels[rows, 0], np.float64), np.asarray(store.user[rows])
    weight = np.asarray(store.weight[rows], np.float64)
    logits = [_logits(one, rows) - predictor.learner.own[0].log_odds_offset for one in (predictor, twin)]
    scores = [metrics.score(label, one, user, weight).values for one in logits]
    return {
        "rows": len(rows),
        "difference": float(np.abs(logits[0] - logits[1]).max(initial=0.0)),
        **{name: [one[name] for one in scores] for name in ("auc", "gauc", "ne")},
    }


def _logits(predictor: Predictor, rows: Array) -> Array:
    """Return float32 [n], the first task's logits of rows of the store."""
    size = predictor.job.config.batch
    builder = BatchBuilder.of(predictor.store, predictor.job.config)
    parts = [rows[at : at + size] for at in range(0, len(rows), size)]
    found = [predictor.learner.predict(builder.build(part))[:, 0].numpy() for part in parts]
    return np.concatenate(found) if found else np.zeros(0, np.float32)

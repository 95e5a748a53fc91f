"""A shadow: a version that scores the live traffic behind the answers' back, so that it is known before it is served.

    answer ---> queue (bounded) ---> the shadow's scores ---> /metrics: how far it is from the served version
                                                         \\-> DIR/shadow: both versions' scores, for `recdistill shadow`

Nobody waits for it: what the queue cannot hold is dropped and counted, and its thread yields to those that answer.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from prometheus_client import CollectorRegistry, Counter

from recdistill.defaults import SECOND, SERVED, SHADOW
from recdistill.errors import UserError
from recdistill.serve.artefact import Manifest
from recdistill.serve.backlog import Backlog
from recdistill.serve.live import Live
from recdistill.serve.scorer import Scorer
from recdistill.serve.service import Served
from recdistill.serve.spool import SPOOL, Spool
from recdistill.serve.values import id_of, listed
from recdistill.tables.regression import Regression
from recdistill.typing import Array

__all__ = ["SPOOL", "Shadow", "learned", "of_folder", "record_of"]

SMALL = 1e-12  # a probability of 0 has no logit


def of_folder(root: Path, named: str) -> Scorer:
    """Return the scorer of a shadow: a version of the folder `root`, by its number, or another folder; UserError as
    `Scorer.open`.
    """
    return Scorer.open(root, version=int(named)) if named.isdecimal() else Scorer.open(Path(named))


def learned(scores: Array, manifest: Manifest) -> Array:
    """Return float64 [C, K]: logits of probabilities, of a regression what the model learns of its values."""
    p = np.clip(np.asarray(scores, np.float64), SMALL, 1 - SMALL)
    found = np.log(p) - np.log1p(-p)
    for task, (loss, scale) in manifest.regression.items():
        at = manifest.tasks.index(task)
        found[:, at] = Regression(loss, scale).learned(scores[:, at])  # type: ignore[arg-type]
    return found


Columns = dict[str, Array]  # by task, [C]
Scored = tuple[str, str, Array, Manifest]  # name in the predictions table, model, scores [C, K], what it is


def record_of(served: Served, scored: Sequence[Scored]) -> dict[str, Any]:
    """Return a line of the spool: an answer's candidates, as the request log has them, and what models learned of their
    scores.
    """
    kind = scored[0][3].schema["item_id"]
    return {
        "request": served.request_id,
        "time": round(served.request.time * SECOND),
        "items": [id_of(item, kind, "items") for item in listed(served.request.items)],
        "models": {name: model for name, model, _, _ in scored},
        "logits": {
            name: {task: one.tolist() for task, one in _by_task(learned(scores, manifest), manifest).items()}
            for name, _, scores, manifest in scored
        },
    }


class _Counts(NamedTuple):
    """What /metrics shows of a shadow."""

    requests: Counter
    candidates: Counter
    difference: Counter
    predicted: Counter

    @classmethod
    def on(cls, registry: CollectorRegistry) -> _Counts:
        """Return new counts."""
        texts: Mapping[str, tuple[str, list[str]]] = {
            "requests": (
                "Requests of the shadow: scored, dropped (the queue was full), refused, unwritten.",
                ["state"],
            ),
            "candidates": ("Candidates that both versions scored.", []),
            "logit_difference": ("Sum of the |differences| of their logits, by task.", ["task"]),
            "predicted": ("Sum of the scores, by task and by whose: served, shadow.", ["task", "by"]),
        }
        return cls(*(Counter(f"recdistill_shadow_{name}", *about, registry=registry) for name, about in texts.items()))


class Shadow:
    """An observer of a service. live: what is served; share: of the requests, at random; folder: of the spool."""

    def __init__(self, scorer: Scorer, live: Live, share: float, folder: Path, registry: CollectorRegistry) -> None:
        self.scorer, self.live, self.share = scorer, live, share
        self.counts = _Counts.on(registry)
        self._draw = random.Random()  # noqa: S311 - which requests, no secret
        self._backlog = Backlog("shadow", Spool(folder, f"v{scorer.version}"), self.counts.requests)

    def __call__(self, served: Served) -> None:
        """Take an answer, if it is one of the share."""
        if self._draw.random() < self.share:
            self._backlog.put(partial(self._taken, served))

    def close(self) -> None:
        """Score what waits, and end."""
        self._backlog.close()

    def _taken(self, served: Served) -> str:
        """Return what became of a request."""
        try:
            return self._scored(served)
        except (UserError, ValueError):  # it does not read the request, or has other tasks
            return "refused"

    def _scored(self, served: Served) -> str:
        """Score a request, compare, write; return what became of it."""
        about, other = self.scorer.artefact.manifest, self.live.manifest_of(served.version)
        if other is None:  # it gave way to the next while the answer waited here
            return "dropped"
        scores = self.scorer.rank(served.request)
        mine = (f"{SHADOW}{about.version}", about.model, scores, about)
        its = (f"{SERVED}{served.version}", served.model, served.scores, other)
        self._compare(mine, its)
        return "scored" if self._backlog.record(record_of(served, [mine, its])) else "unwritten"

    def _compare(self, mine: Scored, its: Scored) -> None:
        parts = {
            by: (_by_task(scores, about), _by_task(learned(scores, about), about))
            for by, (_, _, scores, about) in (("shadow", mine), ("served", its))
        }
        self.counts.candidates.inc(len(mine[2]))
        for task in parts["shadow"][0].keys() & parts["served"][0].keys():
            difference = parts["shadow"][1][task] - parts["served"][1][task]
            self.counts.difference.labels(task).inc(float(np.abs(difference).sum()))
            for by, (predicted, _) in parts.items():
                self.counts.predicted.labels(task, by).inc(float(predicted[task].sum()))


def _by_task(columns: Array, manifest: Manifest) -> Columns:
    return dict(zip(manifest.tasks, columns.T, strict=True))

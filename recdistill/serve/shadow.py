"""A shadow: a version that scores the live traffic behind the answers' back, so that it is known before it is served.

    answer ---> queue (bounded) ---> the shadow's scores ---> /metrics: how far it is from the served version
                                                         \\-> DIR/shadow: both versions' scores, for `recdistill shadow`

Nobody waits for it: what the queue cannot hold is dropped and counted, and its thread yields to those that answer.
"""

from __future__ import annotations

import os
import queue
import random
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np
from prometheus_client import CollectorRegistry, Counter

from recdistill.defaults import SECOND
from recdistill.errors import UserError
from recdistill.serve.artefact import Manifest
from recdistill.serve.live import Live
from recdistill.serve.scorer import Scorer
from recdistill.serve.service import Served
from recdistill.serve.spool import Spool
from recdistill.tables.regression import Regression
from recdistill.typing import Array

__all__ = ["SPOOL", "Shadow", "learned", "of_folder"]

SPOOL = "shadow"  # the folder beside the versions
WAITING = 256  # answers that wait to be scored
SMALL = 1e-12  # a probability of 0 has no logit
NICE = 19


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
        self._spool = Spool(folder, f"v{scorer.version}")
        self._queue: queue.Queue[Served | None] = queue.Queue(WAITING)
        self._draw = random.Random()  # noqa: S311 - which requests, no secret
        self._thread = threading.Thread(target=self._run, name="shadow", daemon=True)
        self._thread.start()

    def __call__(self, served: Served) -> None:
        """Take an answer, if it is one of the share."""
        if self._draw.random() >= self.share:
            return
        try:
            self._queue.put_nowait(served)
        except queue.Full:
            self.counts.requests.labels("dropped").inc()

    def close(self) -> None:
        """Score what waits, and end."""
        self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        with suppress(OSError, AttributeError):  # of this thread alone, where the system can
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)
        while (served := self._queue.get()) is not None:
            try:
                state = self._taken(served)
            except (UserError, ValueError):  # it does not read the request, or has other tasks
                state = "refused"
            except OSError:
                state = "unwritten"
            self.counts.requests.labels(state).inc()
        self._spool.close()

    def _taken(self, served: Served) -> str:
        """Score a request, compare, write; return what became of it."""
        about, other = self.scorer.artefact.manifest, self.live.scorer.artefact.manifest
        scores = self.scorer.rank(served.request)
        logits = {
            f"shadow.v{about.version}": _by_task(learned(scores, about), about),
            f"served.v{served.version}": _by_task(learned(served.scores, other), other),
        }
        self._compare({"shadow": _by_task(scores, about), "served": _by_task(served.scores, other)}, *logits.values())
        record = {
            "request": served.request_id,
            "time": round(served.request.time * SECOND),
            "items": list(served.request.items),
            "models": dict(zip(logits, (about.model, served.model), strict=True)),
            "logits": {name: {task: one.tolist() for task, one in of.items()} for name, of in logits.items()},
        }
        written = self._spool.add(record)
        if self._queue.empty():
            self._spool.flush()
        return "scored" if written else "unwritten"

    def _compare(self, scores: Mapping[str, Columns], mine: Columns, its: Columns) -> None:
        self.counts.candidates.inc(len(next(iter(mine.values()))))
        for task in mine.keys() & its.keys():
            self.counts.difference.labels(task).inc(float(np.abs(mine[task] - its[task]).sum()))
            for by, of in scores.items():
                self.counts.predicted.labels(task, by).inc(float(of[task].sum()))


def _by_task(columns: Array, manifest: Manifest) -> Columns:
    return dict(zip(manifest.tasks, columns.T, strict=True))

"""The one step of every model, in the batch phase, in a fold and in a stream: predict the batch, hand its logits over
to be recorded, learn from it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from recdistill.data.batch.batch import Batch
from recdistill.data.batch.builder import BatchBuilder, prefetch
from recdistill.distill.losses import WHOLE, Shares
from recdistill.models.embeddings.routes import Route
from recdistill.models.layers.staging import Sent, Stage, stage_for
from recdistill.testing.killpoints import reach
from recdistill.train.learner import Learner, StepResult
from recdistill.typing import Array

__all__ = ["Outcome", "Prepared", "part_starts", "shares_of", "steps", "unlearned", "with_labels"]

T = TypeVar("T")


@dataclass(frozen=True)
class Prepared:
    """A batch ready for its step.

    keep: bool [B], which samples are learned; learn: False to predict alone. candidates: a batch of items to score too.
    shares, undo, late: see `Learner.learn`. routes: of the ids that were asked for already, of several ranks. sent: its
    batches on their way to the device, where they are sent ahead.
    """

    batch: Batch
    keep: Tensor
    candidates: Batch | None = None
    learn: bool = True
    shares: Shares = WHOLE
    undo: Tensor | None = None
    late: Tensor | None = None
    routes: Sequence[Route] = ()
    sent: Sent | None = None


@dataclass(frozen=True)
class Outcome:
    """What one step gives: the logits from before its update, and float16 [B, count, K] of the candidates, if any."""

    result: StepResult
    candidates: Array | None


def steps(learner: Learner, prepare: Callable[[T], Prepared], items: Iterable[T]) -> Iterator[Outcome]:
    """Take a step per item, in order; `prepare` runs in a thread, some items ahead, and from there batches go to a CUDA
    device.

    The first steps of several ranks are prepared when it is their turn, until one has shown what is looked up.
    """
    left, stage = iter(items), stage_for(next(learner.network.parameters()).device)
    while not learner.lookups.known and (now := list(islice(left, 1))):
        yield _step(learner, prepare(now[0]))
    for prepared in prefetch(lambda item: _asked(learner, stage, prepare(item)), left):
        if stage is not None and prepared.sent is not None:
            stage.wait(prepared.sent)
            learner.lookups.know(prepared.sent.ids)
        yield _step(learner, prepared)


def _asked(learner: Learner, stage: Stage | None, prepared: Prepared) -> Prepared:
    """Return the step with the routes of what it will look up, its batches sent ahead."""
    batches = [prepared.batch] if prepared.candidates is None else [prepared.batch, prepared.candidates]
    prepared = replace(prepared, routes=learner.lookups.ask([batch.columns() for batch in batches]))
    if stage is None:
        return prepared
    sent = stage.send(batches)
    batch, *candidates = sent.batches
    return replace(prepared, sent=sent, batch=batch, candidates=candidates[0] if candidates else None)


def _step(learner: Learner, prepared: Prepared) -> Outcome:
    asked = prepared.candidates
    learner.lookups.bring(prepared.routes, prepared.learn)
    candidates = None if asked is None else learner.score_candidates(asked, len(prepared.keep))
    if prepared.learn:
        result = learner.learn(prepared.batch, prepared.keep, prepared.undo, prepared.late, prepared.shares)
    else:
        result = learner.predict_only(prepared.batch)
    reach("step.learned")
    return Outcome(result, candidates)


def with_labels(
    prepared: Prepared, labels: Array, again: Array | None = None, late_share: Array | None = None
) -> Prepared:
    """Return the step with the labels that were decided by now, float32 [B, K].

    again: bool [B], late positives, whose signals counted when the sample was learned first; None without any.
    late_share: float32 [K], see `Learner.learn`; None where late positives undo what they were learned as.
    """
    batch = prepared.batch
    batch.labels[:: batch.rows_per_sample] = torch.from_numpy(labels)
    undo = torch.from_numpy(again) if again is not None and again.any() else None
    if undo is not None:
        batch.signals[undo.repeat_interleave(batch.rows_per_sample)] = math.nan
    if late_share is not None:
        return replace(prepared, late=torch.from_numpy(late_share).float())
    return replace(prepared, undo=undo)


def part_starts(learner: Learner, builder: BatchBuilder, rows: Array) -> Array | None:
    """Return where a rank's part of a step's rows may begin, int64 [n]: with a request, where the order within requests
    is learned; None for anywhere, and where nobody shares the step.
    """
    ordered = learner.distill is not None and learner.distill.listwise
    return np.flatnonzero(builder.changes(rows)) if ordered and learner.dense.ranks.size > 1 else None


def unlearned(prepared: Prepared) -> Prepared:
    """Return the step of a rank that has no rows of it, whose batch is another's row: without its labels nothing of it
    counts, neither for weights nor for what is averaged over rows.
    """
    prepared.batch.labels.fill_(math.nan)
    return replace(prepared, shares=replace(prepared.shares, first=prepared.shares.of or 0))


def shares_of(labels: Array, keep: Array, mine: Array, part: slice, weight: Array) -> Shares:
    """Return what the losses of a step's rows in `part`, of which `mine` are learned, count in the step's; labels
    [n, K], keep bool [n] and weight [n] of all its rows.
    """
    whole, rows = _known(labels, keep, weight), float((keep * weight).sum())
    return Shares(
        _known(labels[part], mine, weight[part]) / whole if whole else 0.0,
        float((mine * weight[part]).sum()) / rows if rows else 0.0,
        part.start,
        len(keep),
    )


def _known(labels: Array, keep: Array, weight: Array) -> float:
    """Return what the labels of these rows that are learned weigh together."""
    return float(((~np.isnan(labels) & keep[:, None]) * weight[:, None].astype(np.float64)).sum())

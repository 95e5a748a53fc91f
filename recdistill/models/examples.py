"""Small random batches to try a network on, and the ways in which they may change without changing a sample."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from recdistill.data.batch.ages import SECOND
from recdistill.data.batch.batch import Batch, History, Lookup, Vectors
from recdistill.data.batch.extras import Extras
from recdistill.data.batch.numbers import NUMBERS
from recdistill.typing import Array

__all__ = [
    "ACTIONS",
    "EXTRAS",
    "FIELDS",
    "LENGTH",
    "SLOTS",
    "example_batch",
    "lookup",
    "repeat_histories",
    "take",
    "with_longer_neighbour",
]

FIELDS, SLOTS, ACTIONS, LENGTH = 3, 2, 2, 9
EXTRAS = Extras(values=4, sequences=2, vectors=(("item", 5), ("user", 3), ("row", 2)))


def lookup(ids: Array) -> Lookup:
    """Return the ids of a column, each distinct one once; 0 is the padding."""
    unique, inverse = np.unique(np.concatenate([[0], ids.reshape(-1)]), return_inverse=True)
    return Lookup(torch.from_numpy(unique.astype(np.int64)), torch.from_numpy(inverse[1:].reshape(ids.shape)))


def example_batch(sizes: Sequence[int] = (3, 1, 2), lengths: Sequence[int] = (4, 0, 9), seed: int = 0) -> Batch:
    """Return a random batch: a request per entry, of `sizes` samples and `lengths` past events each."""
    draw = np.random.default_rng(seed)
    samples = sum(sizes)
    history = _histories(draw, sizes, lengths, ACTIONS)
    user = np.repeat(draw.integers(1, 20, len(sizes)), sizes)
    numbers = np.random.default_rng(seed + 1).normal(0, 1, (samples, NUMBERS)).astype(np.float32)
    return Batch(
        torch.arange(samples),
        lookup(draw.integers(1, 30, samples)),
        lookup(user),
        lookup(draw.integers(1, 40, (samples, FIELDS))),
        lookup(draw.integers(0, 6, (samples, SLOTS))),
        history,
        torch.from_numpy(numbers),
        torch.from_numpy(draw.integers(0, 2, (samples, 1)).astype(np.float32)),
        torch.full((samples, 1), float("nan")),
        torch.from_numpy(np.random.default_rng(seed + 2).normal(0, 1, (samples, EXTRAS.values)).astype(np.float32)),
        tuple(_histories(draw, sizes, np.roll(lengths, k + 1), 1) for k in range(EXTRAS.sequences)),
        vectors=_vectors(np.random.default_rng(seed + 3), samples),
    )


def _vectors(draw: np.random.Generator, samples: int) -> dict[str, Vectors]:
    """Return random vectors of EXTRAS.vectors, of four ids by turns."""
    return {
        side: Vectors(torch.from_numpy(draw.normal(0, 1, (4, width)).astype(np.float32)), torch.arange(samples) % 4)
        for side, width in EXTRAS.vectors
    }


def _histories(
    draw: np.random.Generator, sizes: Sequence[int], lengths: Sequence[int] | Array, actions: int
) -> History:
    """Return random histories of `lengths` events, each of `sizes` samples."""
    events = sum(lengths)
    past = lookup(draw.integers(1, 30, events))
    ago = np.concatenate([np.sort(2.0 ** draw.uniform(-1, 25, n))[::-1] for n in lengths]) * SECOND
    return History(
        past.unique,
        past.inverse,
        torch.from_numpy(ago.astype(np.int64)),
        torch.from_numpy(draw.integers(0, actions, events)),
        torch.from_numpy(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)),
        torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes)),
    )


def take(batch: Batch, rows: torch.Tensor) -> Batch:
    """Return the samples `rows` of a batch, in that order; every history stays."""

    def cut(column: Lookup) -> Lookup:
        return replace(column, inverse=column.inverse[rows])

    return replace(
        batch,
        sample_id=batch.sample_id[rows],
        item=cut(batch.item),
        user=cut(batch.user),
        context=cut(batch.context),
        lists=cut(batch.lists),
        history=replace(batch.history, of=batch.history.of[rows]),
        sequences=tuple(replace(one, of=one.of[rows]) for one in batch.sequences),
        numbers=batch.numbers[rows],
        values=batch.values[rows],
        labels=batch.labels[rows],
        signals=batch.signals[rows],
        vectors={side: replace(one, inverse=one.inverse[rows]) for side, one in batch.vectors.items()},
    )


def repeat_histories(batch: Batch) -> Batch:
    """Return the same batch with a history, and with sequences, per sample."""
    return replace(batch, history=_repeated(batch.history), sequences=tuple(_repeated(one) for one in batch.sequences))


def _repeated(old: History) -> History:
    pieces = [torch.arange(int(old.offsets[r]), int(old.offsets[r + 1])) for r in old.of.tolist()]
    at = torch.cat(pieces)
    offsets = torch.tensor([0, *np.cumsum([len(piece) for piece in pieces])])
    return History(old.unique, old.index[at], old.ago[at], old.action[at], offsets, torch.arange(len(old.of)))


def with_longer_neighbour() -> tuple[Batch, Batch]:
    """Return a batch, and the same one but that its last history is longer: its first three samples are unchanged."""
    short, long = example_batch((3, 1), (4, 2)), example_batch((3, 1), (4, 9))
    longer = tuple(_extended(one, other) for one, other in zip(short.sequences, long.sequences, strict=True))
    return short, replace(short, history=_extended(short.history, long.history), sequences=longer)


def _extended(short: History, long: History) -> History:
    """Return the first of two histories of `short`, and all but as many events of `long` as the second."""
    n = int(short.offsets[1])
    ids = torch.cat([short.unique[short.index[:n]], long.unique[long.index[n:]]])
    column = lookup(ids.numpy())
    return replace(
        short,
        unique=column.unique,
        index=column.inverse,
        ago=torch.cat([short.ago[:n], long.ago[n:]]),
        action=torch.cat([short.action[:n], long.action[n:]]),
        offsets=torch.tensor([0, n, len(ids)]),
    )

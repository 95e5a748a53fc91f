"""Keeping a share of the samples: by a hash of the id, so that the same ones are kept wherever the log is cut."""

from __future__ import annotations

import numpy as np

from recdistill.config.data import SamplingConfig
from recdistill.typing import Array

__all__ = ["GOLDEN", "INGEST_SEED", "kept", "mixed", "paired", "rates_per_task", "uniform"]

GOLDEN = np.uint64(0x9E3779B97F4A7C15)  # 2^64 over the golden ratio, as splitmix64 has it
RATE_ROWS = 1_000_000  # enough for two rates, and the same work however long the log is
INGEST_SEED = -1  # of what the log keeps: no model's, whose own draw must not depend on it


def mixed(keys: Array) -> Array:
    """Return uint64 [n]: the finaliser of splitmix64 (Steele et al., OOPSLA 2014), a bijection that looks random."""
    state = keys.astype(np.uint64)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        state = (state ^ (state >> np.uint64(shift))) * np.uint64(factor)
    return np.asarray(state ^ (state >> np.uint64(31)))


def paired(one: Array, other: Array) -> Array:
    """Return uint64 [n], a hash of each pair of two uint64 [n]."""
    return mixed(one * GOLDEN + other)


def uniform(keys: Array, seed: int) -> Array:
    """Return float64 [n] in [0, 1), a pure function of integer `keys` and `seed`."""
    state = keys.astype(np.uint64) * GOLDEN + np.uint64(seed * 0xD1B54A32D192ED03 % 2**64)
    return np.asarray((mixed(state) >> np.uint64(11)).astype(np.float64) / 2.0**53)


def kept(sample_id: Array, label: Array, sampling: SamplingConfig, seed: int) -> Array:
    """Return bool [n]: which samples are kept, by a hash of the id, at the keep rate of the label's class.

    The same sample is kept or not wherever the log is cut; unknown labels (NaN) are kept.
    """
    return np.asarray(uniform(sample_id, seed) < _rate(label, sampling))


def _rate(label: Array, sampling: SamplingConfig) -> Array:
    """Return the probability [n] with which a sample of this label is kept."""
    return np.where(label == 1, sampling.positive, np.where(label == 0, sampling.negative, 1.0))


def rates_per_task(labels: Array, sampling: SamplingConfig) -> list[tuple[float, float]]:
    """Return (k+, k-) per task of labels [N, K] that are kept by the first task's label.

    For the first task these are `sampling`'s; for another the mean rate of its positives and of its negatives, as the
    two labels go together in the first RATE_ROWS rows of the log: right on average, not for each sample. (1, 1) without
    labels.
    """
    labels = np.asarray(labels[:RATE_ROWS])
    rate = _rate(labels[:, 0], sampling)
    others = [[rate[y == value].mean() if (y == value).any() else 1.0 for value in (1, 0)] for y in labels[:, 1:].T]
    return [
        (sampling.positive, sampling.negative),
        *((float(positive), float(negative)) for positive, negative in others),
    ]

"""Waiting samples cut into the batches that a model of a stream predicts and learns, with their signals."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from recdistill.config.data import SamplingConfig
from recdistill.data.batch.batch import Batch
from recdistill.data.batch.builder import BatchBuilder, CandidateSignals
from recdistill.data.batch.candidates import Candidates
from recdistill.data.sampling import kept
from recdistill.data.store.live_store import LiveStore
from recdistill.runs.jobs import Job
from recdistill.signals.columns import CANDIDATES
from recdistill.train.step import Prepared
from recdistill.typing import Array

__all__ = ["Cutter"]

NO_OFFSET = np.zeros(1, np.float32)  # one teacher


class Cutter:
    """Builds the batches of one model; positions are those among the waiting samples.

    sampling: of the labels that are learned. scored: the candidates of each sample that a teacher scores too, None for
    a student. learned: those whose signals a student learns from, None for others.
    """

    def __init__(
        self,
        store: LiveStore,
        job: Job,
        sampling: SamplingConfig,
        scored: Candidates | None = None,
        learned: Candidates | None = None,
    ) -> None:
        self.store, self.job, self.sampling, self.scored, self.learned = store, job, sampling, scored, learned
        self.builder = BatchBuilder.of(store, job.config)

    def cuts(self, positions: Array) -> list[Array]:
        """Return positions, int64 [n], batch by batch."""
        size = self.job.config.batch
        return [positions[at : at + size] for at in range(0, len(positions), size)]

    def prepare(self, cut: Array) -> Prepared:
        """Return the batch ready for its step, with the candidates to score."""
        batch, keep = self.labelled(cut)
        return Prepared(batch, keep, self.candidates(cut))

    def labelled(self, cut: Array) -> tuple[Batch, Tensor]:
        """Return the batch with the signals that were joined to it, and bool [B]: which of it is learned."""
        rows = self.store.rows
        self.builder.signals = rows["signals"] if self.job.uses_teacher else None
        self.builder.candidate_signals = (
            CandidateSignals(self.learned, rows["candidate_signals"], NO_OFFSET) if self.learned else None
        )
        keep = kept(rows["sample_id"][cut], rows["labels"][cut, 0], self.sampling, self.job.seed)
        return self.builder.build(cut), torch.from_numpy(keep)

    def unlabelled(self, cut: Array) -> Prepared:
        """Return the batch without signals, to be predicted when its samples arrive, with the candidates to score."""
        every = torch.ones(len(cut), dtype=torch.bool)
        return Prepared(self.builder.unlabelled(cut), every, self.candidates(cut), learn=False)

    def candidates(self, cut: Array) -> Batch | None:
        """Return the batch's candidates to score, None where there are none."""
        return self.builder.candidates(cut, self.scored) if self.scored else None

    def channels(self, rows: int) -> dict[str, Array]:
        """Return empty columns for what is recorded of `rows` samples besides logits: float16 [n, candidates, K]."""
        if not self.scored:
            return {}
        return {CANDIDATES: np.empty((rows, self.scored.count, self.store.labels.shape[1]), np.float16)}

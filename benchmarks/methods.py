"""What each way of distillation costs a student: `python benchmarks/methods.py` (about 2 min). No budget: a table of
ratios.

The same student learns from the same rows, alternately with the raw one, in one process; batches are ready
beforehand, so what is timed is the step. Memory is the peak of a process of its own that builds the batches and takes
the steps.
"""

from __future__ import annotations

import multiprocessing
import resource
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from _common import batches_of, learner_of, paired, report, store_of

from recdistill.config.models import AdapterConfig, DistillConfig, GateConfig, StudentConfig
from recdistill.data.batch.builder import BatchBuilder, CandidateSignals
from recdistill.data.batch.candidates import Candidates
from recdistill.data.store.sample_store import SampleStore

STEPS, WARM, HIDDEN_WIDTH = 200, 10, 16
STUDENT = StudentConfig(kind="target-attention", width=16, history=50, batch=64, options={"kernels": 4, "rich": True})
METHODS = {
    "one tower": DistillConfig(towers="single"),
    "two towers": DistillConfig(),
    "signal only": DistillConfig(towers="signal-only", gradient_scale=2.0, label_scale=2.0),
    "adapter": DistillConfig(adapter=AdapterConfig()),
    "gate by history": DistillConfig(gate=GateConfig(start="teacher-ahead", by="history")),
    "automatic weight": DistillConfig(weight="auto"),
    "listwise": DistillConfig(towers="single", listwise=1.0),
    "8 hidden states": DistillConfig(towers="single", teacher_hidden=8),
    "2 candidates": DistillConfig(towers="single", candidates=2),
    "8 candidates": DistillConfig(towers="single", candidates=8),
    "8 candidates, listwise": DistillConfig(towers="single", candidates=8, listwise=1.0),
}


def builder_of(store: SampleStore, distill: DistillConfig | None) -> BatchBuilder:
    """Return what gives a method its batches; the teacher's logits are drawn at random."""
    draw = np.random.default_rng(0)
    if distill is None:
        return BatchBuilder(store, STUDENT.history)
    logits = draw.normal(-1.4, 1.0, (len(store), distill.candidates, 1)).astype(np.float16)
    own = (np.zeros(column.shape[1], bool) for column in (store.context, store.lists, store.row_vectors))
    asked = Candidates(distill.candidates, 20_000, *own)
    hidden = draw.normal(0, 0.3, (1024, distill.teacher_hidden, HIDDEN_WIDTH)).astype(np.float32)
    candidate_signals = CandidateSignals(asked, logits, np.zeros(1, np.float32)) if logits.size else None
    return BatchBuilder(
        store,
        STUDENT.history,
        draw.normal(-1.4, 1.0, (len(store), 1)).astype(np.float32),
        candidate_signals,
        (lambda rows: (hidden[rows % 1024], np.full(len(rows), distill.teacher_hidden))) if hidden.size else None,
    )


def made(store: SampleStore, distill: DistillConfig | None):  # type: ignore[no-untyped-def]
    """Return (learner, batches) of a method; None is the raw student."""
    first = len(store) - STUDENT.batch * (STEPS + WARM)
    learner = learner_of(store, STUDENT, distill, HIDDEN_WIDTH if distill and distill.teacher_hidden else 0)
    return learner, batches_of(store, builder_of(store, distill), STUDENT.batch, first, STEPS + WARM)


def peak(folder: Path, distill: DistillConfig | None) -> float:
    """Return the peak memory, in bytes, of a process that does what a method does, a batch at a time."""
    store = SampleStore(folder)
    learner, builder = (
        learner_of(store, STUDENT, distill, HIDDEN_WIDTH if distill and distill.teacher_hidden else 0),
        builder_of(store, distill),
    )
    for k in range(STEPS):
        learner.learn(
            builder.build(np.arange(k * STUDENT.batch, (k + 1) * STUDENT.batch)),
            torch.ones(STUDENT.batch, dtype=torch.bool),
        )
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024.0


def in_process(folder: Path, distill: DistillConfig | None) -> float:
    """Return `peak`, measured in a new process."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(peak, (folder, distill))


def main() -> int:
    """Measure every method against the raw student."""
    rows, keep = [], torch.ones(STUDENT.batch, dtype=torch.bool)
    with tempfile.TemporaryDirectory() as name:
        store = store_of(Path(name), rows=200_000, users=2_000, items=20_000, candidates=5)
        raw, plain = made(store, None)
        alone = in_process(Path(name) / "store", None)
        for method, distill in METHODS.items():
            learner, batches = made(store, distill)
            for k in range(WARM):
                raw.learn(plain[k], keep)
                learner.learn(batches[k], keep)
            one, other, ratio = paired(
                lambda k: raw.learn(plain[WARM + k], keep),
                lambda k, to=learner, of=batches: to.learn(of[WARM + k], keep),
                STEPS,
            )
            memory = in_process(Path(name) / "store", distill) / alone
            rows.append([method, f"{one * 1e3:.2f}", f"{other * 1e3:.2f}", f"{ratio:.2f}", f"{memory:.2f}"])
    return report("one step of 64 rows", ["method", "raw ms", "method ms", "step", "peak memory"], rows, True, "none")


if __name__ == "__main__":
    sys.exit(main())

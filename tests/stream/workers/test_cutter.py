"""Waiting samples cut into batches: in order, with their signals where there is a teacher, and never before."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from recdistill.config.data import SamplingConfig
from recdistill.data.store.live_store import LiveStore
from recdistill.signals.columns import CANDIDATES
from recdistill.stream.event_log import Journal
from recdistill.stream.workers.build import worker_of
from recdistill.stream.workers.cutter import Cutter
from recdistill.stream.workers.signal_joiner import empty_columns
from tests.support.stream_runs import StreamRun, experiment_of, models_of
from tests.support.tables import SCHEMA, events

TEACHER, RAW, DISTILLED = models_of(experiment_of())


@pytest.fixture
def store(tmp_path: Path) -> LiveStore:
    """A hundred waiting samples with signal = position, every second one a positive."""
    made = LiveStore(tmp_path / "live", SCHEMA, None, behaviors=False)
    for k in range(100):
        made.add(events([k], label=float(k % 2)), **empty_columns(1, 1, 0))
    made.rows["signals"][:] = np.arange(100)[:, None]
    return made


def test_positions_are_cut_in_order_by_the_batch(store: LiveStore) -> None:
    cutter = Cutter(store, RAW, SamplingConfig())
    assert [len(cut) for cut in cutter.cuts(np.arange(30, 100))] == [50, 20]
    assert np.concatenate(cutter.cuts(np.arange(7))).tolist() == list(range(7)) and cutter.cuts(np.arange(0)) == []


def test_signals_come_where_there_is_a_teacher_and_not_before_learning(store: LiveStore) -> None:
    at = np.array([3, 4, 50])
    student, raw = Cutter(store, DISTILLED, SamplingConfig()), Cutter(store, RAW, SamplingConfig())
    assert student.labelled(at)[0].signals[:, 0].tolist() == [3.0, 4.0, 50.0]
    assert student.unlabelled(at).batch.signals.isnan().all() and raw.labelled(at)[0].signals.isnan().all()
    assert student.labelled(at)[0].sample_id.tolist() == at.tolist()


def test_what_is_sampled_away_is_not_learned(store: LiveStore) -> None:
    _, keep = Cutter(store, RAW, SamplingConfig(positive=1.0, negative=0.1)).labelled(np.arange(100))
    assert keep[1::2].all() and 0 < int(keep[::2].sum()) < 25
    again = Cutter(store, RAW, SamplingConfig(positive=1.0, negative=0.1)).labelled(np.arange(50, 100))[1]
    assert again.equal(keep[50:])  # by sample, however they are cut


def test_only_a_model_with_candidates_scores_any(store: LiveStore) -> None:
    cutter = Cutter(store, TEACHER, SamplingConfig())
    assert cutter.prepare(np.arange(5)).candidates is None and cutter.channels(5) == {}


def test_candidates_have_a_channel_of_their_own(tmp_path: Path) -> None:
    run = StreamRun(tmp_path / "run", experiment_of("candidates.count=3", "candidates.window=70"), 0)
    run.feed(80)
    worker = worker_of(run.folder, run.experiment, models_of(run.experiment)[0], Journal(run.folder.logs, "test"))
    worker.tables.read()
    channels = worker.cutter.channels(10)
    tasks = len(run.log.schema.tasks)
    assert channels[CANDIDATES].shape == (10, 3, tasks) and channels[CANDIDATES].dtype == np.float16
    prepared = worker.cutter.prepare(np.arange(70, 80))
    assert prepared.candidates is not None and len(prepared.candidates) == 30
    assert prepared.candidates.labels.isnan().all()

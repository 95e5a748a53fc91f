"""A record joined to the store: one column whatever the number of workers, in the order of the commits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from recdistill.data.store.sample_store import SampleStore, build_store
from recdistill.signals import recorded
from recdistill.signals.columns import CANDIDATES, STATE, join_candidates, join_column, join_teacher_hidden
from recdistill.tables.events import EventLog
from recdistill.tables.predictions import PredictionLog
from recdistill.typing import Array
from recdistill.workers.parts import ALONE, Workers
from tests.support.tables import events, make_events

CHANNELS = {CANDIDATES: 8, STATE: 3}
COMMITS = [range(0, 20), range(20, 45), range(60, 90), range(45, 60)]  # and of samples that the log does not have
TWICE = range(10, 15)  # recorded again, as no writer of ours does: the last commit counts


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[SampleStore, PredictionLog]:
    """A store of 80 samples, and a record of most of them in five commits."""
    folder = tmp_path_factory.mktemp("recorded")
    log = make_events(folder / "events", [range(80)])
    store = build_store(folder / "store", EventLog.open(log.path), None)
    predictions = PredictionLog.create(folder / "predictions", tuple(store.tasks), CHANNELS)
    for sequence, ids in enumerate([*COMMITS, TWICE]):
        predictions.append(
            rows_of(predictions, ids, sequence),
            model="teacher",
            version=0,
            kind="prequential",
            writer="w",
            sequence=sequence,
            new_samples=True,
        )
    return store, predictions


def rows_of(log: PredictionLog, ids: range, sequence: int) -> pl.DataFrame:
    """Return rows whose logits and channels say which sample they are of, and in which commit."""
    number = np.array(ids)
    logits = np.stack([number + 100 * sequence + task for task in range(len(log.tasks))], 1).astype(np.float32)
    candidates = np.repeat(number[:, None], 4, 1).astype(np.float16)
    states = np.stack([number, number + 1, np.full(len(number), sequence)], 1).astype(np.uint8)
    times = np.array(events(ids)["time"].to_physical())
    return log.rows_of(number, times, logits, {CANDIDATES: candidates, STATE: states})


def joined(folder: Path, run: tuple[SampleStore, PredictionLog], workers: Workers) -> list[Array]:
    """Return every column that is joined."""
    places = [folder / f"{name}-{workers.count}" for name in "abc"]
    column = join_column(places[0], *run, "teacher", workers=workers)
    candidates = join_candidates(places[1], *run, "teacher", workers)
    return [np.array(one) for one in (column, candidates, *join_teacher_hidden(places[2], *run, "teacher", workers))]


def test_two_workers_join_what_one_does(
    run: tuple[SampleStore, PredictionLog], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorded, "PART_BYTES", 1)  # a part for each file
    monkeypatch.setattr(recorded, "WORTH_BYTES", 1)
    one, two = joined(tmp_path, run, ALONE), joined(tmp_path, run, Workers(2))
    assert [a.tobytes() == b.tobytes() for a, b in zip(one, two, strict=True)] == 4 * [True]
    logits, _, states, present = one
    wanted = {sample: sequence for sequence, ids in enumerate([*COMMITS, TWICE]) for sample in ids}
    for row, sample in enumerate(run[0].sample_id.tolist()):
        assert logits[row, 0] == sample + 100 * wanted[sample] and present[row]
        assert states[row].tolist() == [sample, sample + 1, wanted[sample]]


def test_small_files_are_read_together(run: tuple[SampleStore, PredictionLog], monkeypatch: pytest.MonkeyPatch) -> None:
    files = run[1].files_of("teacher")
    assert [part.files for part in recorded._together(files)] == [tuple(files)]
    monkeypatch.setattr(recorded, "PART_BYTES", files[0].size + files[1].size)
    parts = list(recorded._together(files))
    assert [file for part in parts for file in part.files] == files and len(parts) in (3, 4)
    assert str(parts[0]) == f"{files[0].path} and 1 more"
    assert list(recorded._together([])) == []

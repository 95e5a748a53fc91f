"""The labels of a teacher's rows: those of the tables as the teacher saw them, whenever they are read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from recdistill.stream.gate.labelled_rows import LabelledRows, Place, batch_rows, log_odds_offset_of_commit
from recdistill.tables.schema import EventSchema
from tests.support.gates import SECOND, START, Stream


@pytest.fixture
def delayed(tmp_path: Path) -> Stream:
    """Three commits of a hundred samples whose positives are known fifty samples later."""
    stream = Stream(tmp_path / "run", window_s=300)
    for _ in range(3):
        stream.samples(100)
    return stream


def rows_of(stream: Stream, version: int) -> LabelledRows:
    """Return the labelled rows, read up to a version of the events."""
    made = LabelledRows(stream.events, stream.outcomes, Place(-1))
    made.read(version)
    return made


def test_positions_are_those_of_the_stream_and_unknown_ids_have_none(delayed: Stream) -> None:
    made = rows_of(delayed, 2)  # version 0 made the table
    ids = delayed.ids[[150, 3, 99]]
    labels, positions = made.look_up(np.append(ids, 10**9))
    assert positions.tolist() == [150, 3, 99, -1] and np.isnan(labels).all()
    assert made.watermark == START + 200 * SECOND
    assert rows_of(delayed, 1).look_up(ids)[1].tolist() == [-1, 3, 99]


def test_settled_labels_are_the_outcomes_seen_by_then_all_others_negative(delayed: Stream) -> None:
    unknown = np.full(100, np.nan)
    found = rows_of(delayed, 2).settled(delayed.ids[:100], unknown)
    assert found.tolist() == delayed.labels[:100].tolist() and 0 < found.sum() < 100
    early = rows_of(delayed, 1).settled(delayed.ids[:100], unknown)
    assert early[:50].tolist() == delayed.labels[:50].tolist() and not early[50:].any()
    given = np.where(np.arange(100) == 1, 1.0, np.nan)
    assert rows_of(delayed, 1).settled(delayed.ids[:100], given)[1] == 1.0


def test_read_again_from_its_place_it_gives_the_same(delayed: Stream) -> None:
    made = rows_of(delayed, 2)
    again = LabelledRows(delayed.events, delayed.outcomes, made.place())
    again.read(2)
    assert made.place() == Place(0) and again.at == made.at and made.at.position == 200
    assert again.look_up(delayed.ids[:200])[1].tolist() == list(range(200))


def test_what_no_sample_waits_for_is_forgotten(delayed: Stream) -> None:
    made = rows_of(delayed, 3)
    made.look_up(delayed.ids[:10])
    made.forget(Place(3, 300, made.at.outcomes))
    assert made.settled(delayed.ids[:100], np.full(100, np.nan)).any()  # its own chunks still wait
    made._chunks.clear()
    made.forget(Place(3, 300, made.at.outcomes))
    assert not made.settled(delayed.ids[:100], np.full(100, np.nan)).any()


def test_the_batch_phases_last_rows_come_with_their_labels_in_order(tmp_path: Path) -> None:
    stream = Stream(tmp_path / "run")
    stream.samples(300)
    for version in range(3):
        stream.predict(100, version, batch=True)
    found = batch_rows(stream.predictions, stream.predictions.version, "teacher", stream.events, 1, 150)
    assert found["version"].to_list() == [1] * 50 + [2] * 100
    assert found["label"].to_list() == stream.labels[150:].tolist()
    none = batch_rows(stream.predictions, stream.predictions.version, "light.raw.s0", stream.events, 1, 150)
    assert len(none) == 0 and none.columns == ["version", "logit", "label"]


def test_the_offset_is_that_of_the_models_own_sampling_beyond_the_logs() -> None:
    schema = EventSchema(("click",), keep_rates={"click": (0.9, 0.2)})
    own = log_odds_offset_of_commit({"keep_rates": '{"click": [0.45, 0.002]}'}, schema)
    assert own == pytest.approx(np.log(0.5 / 0.01)) and log_odds_offset_of_commit({}, schema) == 0.0

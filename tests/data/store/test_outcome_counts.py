"""Counts of outcomes against counting pair by pair, by the rules of the label clock, in the store and in a stream."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recdistill.data.store import grouped
from recdistill.data.store.earlier_counts import earlier_counts
from recdistill.data.store.label_order import NEVER, LabelClock
from recdistill.data.store.live_counts import LiveCounts
from recdistill.data.store.outcome_counts import OutcomeCounts, create_counts, fill_counts
from recdistill.typing import Array

KEYS, WINDOW = 4, 5
ROW = st.tuples(
    st.integers(0, KEYS - 1), st.integers(0, 9), st.integers(0, 9), st.sampled_from([0.0, 1.0, np.nan]), st.booleans()
)
Rows = list[tuple[int, int, int, float, bool]]


@pytest.fixture(autouse=True)
def small_slabs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grouped, "SLAB", 5)


def columns(rows: Rows) -> tuple[Array, Array, Array, Array]:
    """Return (key, time, known, label) in order of time; some labels are known at no time."""
    found = sorted(rows, key=lambda row: row[1])
    key, time, delay, label, known = (np.array(column) for column in zip(*found, strict=True))
    return key, time, np.where(known, time + delay, NEVER), label.astype(np.float32)


def outcomes_of(clock: LabelClock, rows: Rows) -> tuple[Array, Array, Array]:
    key, time, known, label = columns(rows)
    of, since, added = clock.counted(time, label, known)
    return key[of], since, added


def built(folder: Path, outcomes: tuple[Array, Array, Array], chunks: int = 2) -> OutcomeCounts:
    parts = np.array_split(np.arange(len(outcomes[0])), chunks)

    def chunks_of() -> Iterator[tuple[Array, ...]]:
        return (tuple(column[part] for column in outcomes) for part in parts)

    create_counts(folder, "user", chunks_of, KEYS)
    fill_counts(folder, "user", chunks_of, 0, KEYS)
    return OutcomeCounts(folder, "user")


def brute(rows: Rows, window: int | None, key: int, now: int) -> list[int]:
    """Return [labels, positives] of a key known strictly before `now`."""
    count = [0, 0]
    for owner, time, known, label in zip(*columns(rows), strict=True):
        end = known if window is None else time + window
        positive = label == 1 and known < now and (window is None or known < NEVER)
        counted = not np.isnan(label) and known < now if window is None else end < now or positive
        if owner == key and counted:
            count[0] += 1
            count[1] += int(positive)
    return count


@settings(max_examples=60, deadline=None)
@given(st.lists(ROW, min_size=1, max_size=30), st.sampled_from([None, WINDOW]), st.integers(1, 4))
def test_what_was_known_before_a_moment(rows: Rows, window: int | None, chunks: int) -> None:
    asked = [(key, now) for key in range(KEYS) for now in range(22)]
    with TemporaryDirectory() as folder:
        counts = built(Path(folder), outcomes_of(LabelClock(window), rows), chunks)
        found = counts.before(*np.array(asked).T)
    assert found.tolist() == [brute(rows, window, *one) for one in asked]


@settings(max_examples=40, deadline=None)
@given(st.lists(ROW, min_size=1, max_size=30), st.sampled_from([None, WINDOW]))
def test_they_are_the_earlier_counts_of_the_baselines(rows: Rows, window: int | None) -> None:
    key, time, known, label = columns(rows)
    with TemporaryDirectory() as folder:
        found = built(Path(folder), outcomes_of(LabelClock(window), rows)).before(key, time)
    counted = LabelClock(window).counted(time, label, known)
    assert found.tolist() == np.stack(earlier_counts(key, time, counted), 1).tolist()


@settings(max_examples=60, deadline=None)
@given(
    st.lists(ROW, max_size=30),
    st.lists(ROW, min_size=1, max_size=30),
    st.sampled_from([None, WINDOW]),
    st.integers(0, 9),
    st.lists(st.integers(1, 21), min_size=1, max_size=4),
)
def test_a_stream_after_a_batch_phase_counts_the_same(
    before: Rows, after: Rows, window: int | None, since: int, moments: list[int]
) -> None:
    """However the moments up to which outcomes are released are chosen, and killed and restored between them."""
    clock = LabelClock(window)
    late = [(key, time + 9, *rest) for key, time, *rest in after]
    everything = outcomes_of(clock, before + late)  # type: ignore[arg-type]
    with TemporaryDirectory() as name:
        folder = Path(name)
        whole = built(folder / "whole", everything)
        base = built(folder / "base", outcomes_of(clock, before)) if before else None
        live = LiveCounts(folder / "live", base, since)
        new = outcomes_of(clock, late)  # type: ignore[arg-type]
        arrived = np.zeros(len(new[0]), bool)
        for now in sorted(moments):
            due = (new[1] < now) & ~arrived
            live.add(*(column[due] for column in new))
            arrived |= due
            live.release(now)
            state = live.state()
            live.add(*(column[~arrived] for column in new))  # and then it is killed
            live.release(now + 3)
            live = LiveCounts(folder / "live", base, since)
            assert live.restore(state)
            asked = np.array([(key, moment) for key in range(KEYS) for moment in range(now + 1)]).T
            assert live.before(*asked).tolist() == whole.before(*asked).tolist()


def test_a_late_positive_turns_a_negative_and_adds_no_label(tmp_path: Path) -> None:
    counts = built(tmp_path, outcomes_of(LabelClock(WINDOW), [(1, 0, 8, 1.0, True)]))
    moments = np.array([5, 6, 8, 9])
    assert counts.before(np.ones(4, np.int64), moments).tolist() == [[0, 0], [1, 0], [1, 0], [1, 1]]


def test_counts_without_their_files_are_not_taken_up(tmp_path: Path) -> None:
    live = LiveCounts(tmp_path / "one", None, 0)
    live.add(np.array([1]), np.array([3]), np.array([[1, 1]]))
    live.release(9)
    assert not LiveCounts(tmp_path / "other", None, 0).restore(live.state())

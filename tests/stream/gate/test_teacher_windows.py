"""A teacher's rows in windows: cut by their number alone, judged once, and held until their labels are settled."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from recdistill.stream.gate.labelled_rows import LabelledRows, Place
from recdistill.stream.gate.teacher_windows import RecordedLogits, Start, TeacherWindows
from tests.support.gates import Stream


def windows_of(stream: Stream, start: Start | None = None) -> TeacherWindows:
    """Return the windows of `teacher`, of 200 rows, from a start."""
    start = start or Start(-1, Place(-1))
    rows = LabelledRows(stream.events, stream.outcomes, start.place)
    return TeacherWindows("teacher", stream.experiment, rows, start)


def commit_of(
    stream: Stream, number: int, first: int, rows: int, version: int = 1, end: bool = False
) -> RecordedLogits:
    """Return a teacher's commit about samples `first` and on, right but for noise."""
    at = slice(first, first + rows)
    noise = np.random.default_rng(first).normal(0, 0.3, rows)
    times = stream.times(at).to_physical().to_numpy()
    logits = stream.truth[at] + noise
    return RecordedLogits(number, version, stream.events.version, stream.ids[at], logits, times, end)


def found(windows: TeacherWindows) -> list[tuple[int, int, str]]:
    """Return (version, rows, verdict) of the verdicts found so far."""
    return [row for frame in windows.found for row in frame.select("version", "rows", "verdict").rows()]


@pytest.fixture
def stream(tmp_path: Path) -> Stream:
    made = Stream(tmp_path / "run")
    made.samples(1000)
    return made


@pytest.mark.parametrize("cuts", [[1000], [130, 270, 7, 393, 200], [199, 1, 1, 199, 600]])
def test_windows_are_cut_by_rows_however_the_commits_are(stream: Stream, cuts: list[int]) -> None:
    windows, first = windows_of(stream), 0
    for number, rows in enumerate(cuts):
        windows.take(commit_of(stream, number, first, rows))
        first += rows
    assert found(windows) == [(1, 200 * k, "approved") for k in range(1, 6)] and windows.windows == 5


def test_what_is_left_of_a_version_is_judged_when_the_next_begins_or_all_has_ended(stream: Stream) -> None:
    windows = windows_of(stream)
    windows.take(commit_of(stream, 0, 0, 250, version=1))
    assert found(windows) == [(1, 200, "approved")]
    windows.take(commit_of(stream, 1, 250, 100, version=2))
    assert found(windows)[1:] == [(1, 250, "approved")] and windows.approved == [(1, 250)]
    windows.take(commit_of(stream, 2, 350, 50, version=2, end=True))
    assert found(windows)[2:] == [(2, 150, "approved")] and windows.ended


def test_a_commit_met_again_changes_nothing(stream: Stream) -> None:
    windows = windows_of(stream)
    for _ in range(2):
        windows.take(commit_of(stream, 5, 0, 300))
    assert found(windows) == [(1, 200, "approved")] and windows.rows == 200


def test_from_where_it_must_start_again_it_cuts_the_same_windows(stream: Stream) -> None:
    whole, half = windows_of(stream), windows_of(stream)
    commits = [commit_of(stream, k, 150 * k, 150) for k in range(6)]
    for commit in commits:
        whole.take(commit)
    for commit in commits[:3]:
        half.take(commit)
    start = Start.from_json(json.loads(json.dumps(half.start(2).to_json())))
    assert (start.commit, start.skip, start.rows) == (1, 100, 400)
    again = windows_of(stream, start)
    for commit in commits[start.commit + 1 :]:
        again.take(commit)
    assert found(half) + found(again) == found(whole)


def test_a_person_decides_before_the_windows_do(stream: Stream) -> None:
    barred, vouched = windows_of(stream), windows_of(stream)
    barred.fold(1, "revoked", 0, "{}")
    barred.take(commit_of(stream, 0, 0, 400))
    assert found(barred) == []
    bad = commit_of(stream, 0, 0, 400)
    bad = RecordedLogits(bad.commit, bad.version, bad.events, bad.ids, -bad.logits, bad.times)
    vouched.fold(1, "unquarantined", 0, "{}")
    vouched.take(bad)
    assert found(vouched) == [(1, 200, "approved"), (1, 400, "approved")]
    alone = windows_of(stream)
    alone.take(bad)
    assert found(alone) == [(1, 200, "quarantined")]


def test_windows_wait_for_their_labels_and_are_judged_again(tmp_path: Path) -> None:
    stream = Stream(tmp_path / "run", window_s=300)
    stream.samples(600)
    windows = windows_of(stream)
    windows.take(commit_of(stream, 0, 0, 600))
    kinds = [json.loads(frame["statistics"][0])["kind"] for frame in windows.found]
    assert kinds == ["recorded"] * 3 + ["settled"]  # the first window's 200 samples are 300 s behind by now
    stream.samples(600)
    windows.take(commit_of(stream, 1, 600, 1))
    kinds = [json.loads(frame["statistics"][0])["kind"] for frame in windows.found]
    assert kinds == ["recorded"] * 3 + ["settled"] * 3

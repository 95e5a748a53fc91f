"""The gate on real tables: what it approves, what it stops, and that a stop and a start anywhere change nothing."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recdistill.errors import UserError
from recdistill.locks import locked
from recdistill.runs.folder import RunFolder
from recdistill.stream.event_log import Journal, read_journals
from recdistill.stream.gate.labelled_rows import LabelledRows, Place
from recdistill.stream.gate.process import run_gate
from recdistill.stream.gate.teacher_windows import Start, TeacherWindows
from recdistill.stream.progress import GateProgress, read_progress
from recdistill.tables.verdicts import VerdictLog, Verdicts
from tests.support.gates import Stream, verdicts_of
from tests.support.processes import exit_code
from tests.support.sweeps import swept


def judged(stream: Stream) -> list[tuple[Any, ...]]:
    """Run the gate to its end and return all verdicts."""
    run_gate(stream.folder, stream.experiment, Journal(stream.folder.logs, "gate"))
    return verdicts_of(stream.folder)


def short(rows: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """Return (version, rows, verdict)."""
    return [row[1:4] for row in rows]


def by_teacher(rows: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """Return the verdicts in order per teacher; how those of two stand among each other depends on the clock."""
    return sorted(rows, key=lambda row: str(row[0]))


def healthy(tmp_path: Path, *settings: str, **options: Any) -> Stream:
    """Return a stream with a batch phase of 2,000 rows, versions 0 and 1, handed over."""
    stream = Stream(tmp_path / "run", *settings, **options)
    stream.samples(2000)
    stream.predict(1000, 0, batch=True)
    stream.predict(1000, 1, batch=True)
    stream.hand_over()
    return stream


def test_versions_are_approved_window_by_window_the_rest_when_the_next_begins(tmp_path: Path) -> None:
    stream = healthy(tmp_path)
    stream.samples(1500)
    for version, rows in ((2, 300), (2, 350), (3, 130), (3, 70), (3, 50)):
        stream.predict(rows, version)
    stream.predict(0, 3, end=True)
    found = short(judged(stream))
    assert found[:10] == [
        (0 if k < 6 else 1, 200 * k, "approved") for k in range(1, 11)
    ]  # the batch phase's, to compare with
    assert found[10:] == [
        (2, 200, "approved"),
        (2, 400, "approved"),
        (2, 600, "approved"),
        (2, 650, "approved"),
        (3, 200, "approved"),
        (3, 250, "approved"),
    ]
    verdicts = Verdicts()
    verdicts.update(stream.verdicts)
    assert verdicts.usable_rows("teacher", 2) == 650
    progress = read_progress(GateProgress, stream.verdicts.last_commit("gate").metadata)  # type: ignore[union-attr]
    assert progress is not None and progress.end and progress.judged == 6
    assert progress.predictions == stream.predictions.version
    lines = [(line["event"], line.get("version"), line.get("rows")) for line in read_journals(stream.folder.logs, 100)]
    assert ("version approved", 2, 650) in lines and ("version approved", 3, 250) in lines


POISONS: dict[str, dict[str, Any]] = {
    "flipped": {"poison": lambda z: -z},
    "shifted": {"poison": lambda z: z + 4},
    "scaled": {"poison": lambda z: 3 * z},
    "constant": {"poison": lambda z: 0 * z},
    "half missing": {"every": 2},
    "shuffled": {"poison": lambda z: z[::-1]},
}


@pytest.mark.parametrize("poison", POISONS)
def test_a_poisoned_version_is_stopped_and_the_next_is_judged_on_its_own(tmp_path: Path, poison: str) -> None:
    stream = healthy(tmp_path)
    stream.samples(6000)
    for version in (2, 3, 4):
        for _ in range(2):
            stream.predict(1000, version, **(POISONS[poison] if version == 3 else {}))
    stream.predict(0, 4, end=True)
    rows = judged(stream)
    bad = [row for row in rows if row[3] == "quarantined"]
    assert [row[1] for row in bad] == [3] and bad[0][4] and "\n" not in bad[0][4]
    assert json.loads(bad[0][5])["rows"] == 200
    assert {row[1] for row in rows if row[3] == "approved"} == {0, 1, 2, 4} | ({3} if bad[0][2] > 200 else set())
    assert max(row[2] for row in rows if row[1] == 4) == 2000
    at = rows.index(bad[0])
    assert not [row for row in rows[at:] if row[1] == 3 and row[3] == "approved"]
    verdicts = Verdicts()
    verdicts.update(stream.verdicts)
    assert verdicts.usable_rows("teacher", 3) is None and verdicts.usable_rows("teacher", 4) == 2000
    assert any(
        line["event"] == "quarantined" and line["version"] == 3 for line in read_journals(stream.folder.logs, 100)
    )


def test_without_a_batch_phase_the_first_window_is_judged_in_absolute_terms(tmp_path: Path) -> None:
    stream = Stream(tmp_path / "run")
    stream.samples(2000)
    stream.predict(400, 0, poison=lambda z: -z)
    stream.predict(400, 1)
    stream.predict(400, 2, poison=lambda z: z + 4)
    stream.predict(0, 2, end=True)
    assert short(judged(stream)) == [
        (0, 200, "quarantined"),
        (1, 200, "approved"),
        (1, 400, "approved"),
        (2, 200, "quarantined"),
    ]


def test_down_sampling_of_the_teachers_own_is_taken_out_the_logs_is_not(tmp_path: Path) -> None:
    keep = (0.9, 0.2)
    own = (0.9 * 0.5, 0.2 * 0.01)
    stream = Stream(tmp_path / "run", keep=keep)
    stream.samples(3000)
    stream.predict(1000, 0, batch=True, keep=keep)
    stream.hand_over()
    stream.predict(1000, 1, keep=own, offset=float(np.log(0.5 / 0.01)), end=True)
    found = judged(stream)
    assert {row[3] for row in found} == {"approved"}
    statistics = [json.loads(row[5]) for row in found]
    assert all(window["mean"] == pytest.approx(-0.9, abs=0.5) for window in statistics)


def test_late_labels_are_judged_when_they_have_settled(tmp_path: Path) -> None:
    """Logits that only look right show it when the labels are known: then the version is quarantined after
    all.
    """
    stream = Stream(tmp_path / "run", window_s=300)
    for k in range(10):
        stream.samples(400)
        stream.predict(400, k // 4, poison=(lambda z: z[::-1]) if k // 4 == 1 else (lambda z: z), end=k == 9)
    rows = judged(stream)
    recorded = [row for row in rows if json.loads(row[5])["kind"] == "recorded"]
    settled = [row for row in rows if json.loads(row[5])["kind"] == "settled"]
    assert [row[:4] for row in settled if row[1] == 0] == [("teacher", 0, 200 * k, "approved") for k in range(1, 9)]
    assert [row[3] for row in settled if row[1] == 1] == ["quarantined"] and "NE" in settled[8][4]
    assert all(json.loads(row[5])["labels"] == 0 for row in recorded) and {row[3] for row in recorded} == {"approved"}
    first = json.loads(settled[0][5])
    assert first["labels"] == 200 and first["observed"] == pytest.approx(stream.labels[:200].mean())


def test_a_bad_versions_windows_are_compared_with_no_more(tmp_path: Path) -> None:
    stream = healthy(tmp_path)
    rows = LabelledRows(stream.events, None, Place(-1))
    made = TeacherWindows("teacher", stream.experiment, rows, Start(-1, Place(-1)))
    sums = json.dumps({"sums": [200.0] * 9, "kind": "batch"})
    for version in (1, 2):
        made.fold(version, "approved", 200, sums)
    made.fold(2, "quarantined", 400, "{}")
    made.fold(1, "revoked", 0, "{}")
    assert (
        not made.as_recorded.current
        and not made.as_recorded.past
        and not made.as_settled.current
        and not made.as_settled.past
    )
    assert made.as_recorded.last == (2, 400) and made.bad == {1, 2}


def test_two_teachers_are_judged_apart_and_students_not_at_all(tmp_path: Path) -> None:
    stream = healthy(tmp_path)
    stream.samples(1000)
    stream.predict(400, 2)
    stream.at["teacher-new"] = 2000
    stream.predict(400, 0, model="teacher-new", poison=lambda z: -z)
    stream.predict(400, 0, model="light.raw.s0")
    stream.predict(400, 2, end=True)
    stream.predict(200, 1, model="teacher-new", end=True)
    rows = [row for row in judged(stream) if row[1] > 1 or row[0] != "teacher"]
    assert {row[0] for row in rows} == {"teacher", "teacher-new"}
    assert {row[3] for row in rows if row[0] == "teacher"} == {"approved"}
    assert [row[:4] for row in rows if row[0] != "teacher"] == [
        ("teacher-new", 0, 200, "quarantined"),
        ("teacher-new", 1, 200, "approved"),
    ]


def test_what_people_decide_counts_at_once(tmp_path: Path) -> None:
    stream = healthy(tmp_path)
    stream.samples(2000)
    stream.verdicts.append(VerdictLog.row("teacher", 2, "revoked"), writer="operator:1", sequence=0)
    stream.verdicts.append(VerdictLog.row("teacher", 3, "unquarantined"), writer="operator:2", sequence=0)
    stream.predict(400, 2)
    stream.predict(400, 3, poison=lambda z: -z)
    stream.predict(400, 4, poison=lambda z: -z, end=True)
    assert [row[1:4] for row in judged(stream) if row[1] > 1 and row[5] != "{}"] == [
        (3, 200, "approved"),
        (3, 400, "approved"),
        (4, 200, "quarantined"),
    ]


def test_what_people_decide_while_the_gate_runs_counts_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At its first pause a version is revoked and another vouched for; the teacher goes on with both."""
    stream = healthy(tmp_path)
    stream.samples(2000)
    stream.predict(400, 2)
    looks = []

    def pause(seconds: float) -> None:
        looks.append(seconds)
        if len(looks) == 1:
            stream.verdicts.append(VerdictLog.row("teacher", 2, "revoked"), writer="operator:1", sequence=0)
            stream.verdicts.append(VerdictLog.row("teacher", 3, "unquarantined"), writer="operator:2", sequence=0)
        elif len(looks) == 2:
            stream.predict(400, 2)
            stream.predict(400, 3, poison=lambda z: -z, end=True)

    monkeypatch.setattr("recdistill.stream.gate.process.time.sleep", pause)
    rows = [row[1:4] for row in judged(stream) if row[1] > 1 and row[5] != "{}"]
    assert rows == [(2, 200, "approved"), (2, 400, "approved"), (3, 200, "approved"), (3, 400, "approved")]


LENIENT = ("stream.health.coverage=0.1",)  # so that windows begin behind a gap


def long(tmp_path: Path, window_s: float | None) -> Stream:
    """Return a stream with everything in it: a batch phase, rests, a poison, a second teacher, late labels."""
    stream = healthy(tmp_path, *LENIENT, window_s=window_s)
    sizes = iter([130, 270, 90, 310, 200, 400, 50, 150, 333, 67] * 3)
    for k in range(12):
        stream.samples(400)
        for _ in range(2):
            rows = min(next(sizes), 2000 + 400 * (k + 1) - stream.at["teacher"])
            stream.predict(rows, 2 + k // 3, poison=(lambda z: z / 5) if k // 3 == 2 else (lambda z: z))
        if k >= 6:
            stream.at.setdefault("teacher-new", 4400)
            stream.predict(300, k // 4, model="teacher-new", every=1 + (k in (9, 10)) * 2, end=k == 11)
    stream.predict(0, 5, end=True)
    return stream


def cut_off(stream: Stream, into: Path, version: int) -> RunFolder:
    """Return a copy of the run in which the predictions end at `version`."""
    shutil.copytree(stream.folder.root, into)
    for commit in (into / "predictions" / "_delta_log").glob("*.json"):
        if int(commit.name[:20]) > version:
            commit.unlink()
    return RunFolder(into)


class _Stopped(Exception):
    pass


@pytest.mark.parametrize("window_s", [None, 300.0])
def test_stopped_after_any_commit_and_started_again_it_decides_the_same(
    tmp_path: Path, window_s: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Time is cut at every commit of the predictions: the gate sees only so many, is stopped, and another goes on."""
    stream = long(tmp_path, window_s)
    whole = cut_off(stream, tmp_path / "whole", 10**9)
    monkeypatch.setattr(
        "recdistill.stream.gate.process.EVERY", -1.0
    )  # it records after every commit, and sees its own verdicts come
    run_gate(whole, stream.experiment, Journal(whole.logs, "gate"))
    expected = verdicts_of(whole)
    assert any("standard deviation" in row[4] for row in expected)  # the reason names what it was compared with

    def stop(seconds: float) -> None:
        raise _Stopped

    monkeypatch.setattr("recdistill.stream.gate.process.time.sleep", stop)
    many = stream.predictions.version
    log = tmp_path / "steps" / "predictions" / "_delta_log"
    steps = cut_off(stream, tmp_path / "steps", -1 + 3)
    for version in range(3, many + 1):
        name = f"{version:020d}.json"
        shutil.copy(stream.folder.predictions / "_delta_log" / name, log / name)
        try:
            run_gate(steps, stream.experiment, Journal(steps.logs, "gate"))
        except _Stopped:
            pass
    assert by_teacher(verdicts_of(steps)) == by_teacher(expected)


@pytest.mark.parametrize("point", swept(["gate.judged", "gate.recorded", "table.files"]))
def test_killed_at_a_named_point_and_started_again_it_decides_the_same(tmp_path: Path, point: str) -> None:
    stream = long(tmp_path, None)
    killed = cut_off(stream, tmp_path / "killed", 10**9)
    expected = judged(stream)
    code = "import sys; from tests.support.gates import main; main(*sys.argv[1:])"
    for expect in (-9, 0):
        assert exit_code(code, killed.root, *LENIENT, point=point if expect else "") == expect
    assert by_teacher(verdicts_of(killed)) == by_teacher(expected)


def test_a_second_gate_is_refused(tmp_path: Path) -> None:
    stream = healthy(tmp_path)
    with (
        locked(stream.folder.root / "lock.gate", "busy"),
        pytest.raises(UserError, match="another gate is at work on this run"),
    ):
        run_gate(stream.folder, stream.experiment, Journal(stream.folder.logs, "gate"))

"""What a person can take back: a teacher's versions, and from when which teacher counts."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from recdistill.errors import UserError
from recdistill.stream.registry.promote import check_student, current, may_serve, rollback, serving
from recdistill.stream.registry.revoke import lineage, revoke, take_over, unquarantine
from recdistill.tables.verdicts import VerdictLog, Verdicts
from tests.support.gates import START
from tests.support.lineages import JOBS, OTHER, STUDENT, Run, run_with_checkpoints


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return run_with_checkpoints(tmp_path / "run")


def verdicts(run: Run) -> Verdicts:
    """Return all verdicts."""
    found = Verdicts()
    found.update(run.verdicts)
    return found


def test_revoke_names_the_checkpoints_that_learned_and_the_one_to_go_back_to(run: Run) -> None:
    run.checkpoint(100, {}, "light.raw.s0")
    run.checkpoint(100, {2: 5}, OTHER)
    run.checkpoint(100, {1: 5}, "late.distilled.s0", teacher="teacher-old")
    found = revoke(run.folder, "teacher", range(1, 3), "labels\nwere flipped")
    assert [(one.model, one.checkpoints, one.back_to, one.promoted) for one in found] == [
        (STUDENT, [200, 300], 100, []),
        (OTHER, [100], None, []),
    ]
    assert verdicts(run).bad == {("teacher", version): ("revoked", "labels were flipped") for version in (1, 2)}
    assert [(one.rows, one.revoked) for one in lineage(run.folder, STUDENT)] == [
        (100, []),
        (200, ["teacher@1"]),
        (300, ["teacher@1", "teacher@2"]),
    ]


def test_a_damaged_checkpoint_is_not_gone_back_to(run: Run) -> None:
    weights = run.folder.model(STUDENT) / "stream" / "00000200" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    assert [one.back_to for one in revoke(run.folder, "teacher", range(2, 3), "bad")] == [100]
    assert [one.whole for one in lineage(run.folder, STUDENT)] == [True, False, True]
    (weights.parent / "state.json").write_text("{")
    assert [one.rows for one in lineage(run.folder, STUDENT)] == [100, 300]


def test_lineage_holds_what_a_checkpoint_learned_from(run: Run) -> None:
    last = lineage(run.folder, STUDENT)[-1]
    assert last.learned_from == {"teacher": {0: 80, 1: 100, 2: 90}} and last.versions["predictions"] == 300
    with pytest.raises(UserError, match=r"no student 'light.distilled.s1' .*did you mean 'light.distilled.s0'"):
        lineage(run.folder, "light.distilled.s1")


def test_an_unquarantined_version_is_usable_to_its_last_row(run: Run) -> None:
    run.verdicts.append(VerdictLog.row("teacher", 3, "quarantined", rows=20, reason="NE"), writer="gate", sequence=0)
    assert verdicts(run).usable_rows("teacher", 3) is None
    unquarantine(run.folder, "teacher", range(3, 4))
    assert (verdicts(run).usable_rows("teacher", 3) or 0) > 10**9
    with pytest.raises(UserError, match="teacher: version 3 is neither quarantined nor revoked"):
        unquarantine(run.folder, "teacher", range(3, 4))
    revoke(run.folder, "teacher", range(3, 4), "after all")
    assert verdicts(run).usable_rows("teacher", 3) is None


def test_mistakes_change_nothing(run: Run) -> None:
    before, root = run.verdicts.version, serving(run.folder)
    for call, problem in (
        (
            lambda: revoke(run.folder, "techer", range(1, 2), "x"),
            "no teacher 'techer' has predicted anything; did you mean 'teacher'",
        ),
        (lambda: revoke(run.folder, STUDENT, range(1, 2), "x"), "no teacher"),
        (lambda: revoke(run.folder, "teacher", range(4, 7), "x"), "has versions 0 to 5; got 4 to 6"),
        (lambda: revoke(run.folder, "teacher", range(3, 3), "x"), "has versions 0 to 5"),
        (lambda: revoke(run.folder, "teacher", range(3, 4), " "), "give the reason why"),
        (lambda: unquarantine(run.folder, "teacher", range(3, 4)), "nothing to unquarantine"),
        (lambda: take_over(run.folder, "teacher-new"), "no teacher 'teacher-new'"),
        (lambda: take_over(run.folder, "teacher", datetime(2024, 1, 1)), "has no time zone"),
        (lambda: check_student(run.folder, "light"), "no student 'light'"),
        (lambda: check_student(run.folder, "teacher"), "no student 'teacher'"),
        (lambda: may_serve(run.folder, JOBS[STUDENT], root, 350), "no checkpoint of 350 rows or more; there are 100"),
        (lambda: rollback(run.folder, root), "nothing is served"),
    ):
        with pytest.raises(UserError, match=problem):
            call()
    assert run.verdicts.version == before and current(root) is None


def test_a_new_teacher_takes_over_from_the_newest_event_or_a_given_time(run: Run) -> None:
    run.predict(0, 0)
    run.at["teacher-new"] = 0
    run.predict(100, 4, model="teacher-new")
    newest = take_over(run.folder, "teacher-new")
    assert newest.timestamp() * 1e6 == START + 600e6
    early = datetime(2024, 1, 1, tzinfo=UTC)
    assert (
        verdicts(run).active_teacher(early, "teacher") == "teacher"
        and verdicts(run).active_teacher(newest, "teacher") == "teacher-new"
    )
    take_over(run.folder, "teacher-new", early)
    assert verdicts(run).active_teacher(early, "teacher") == "teacher-new"

"""Which student is served: promoted when it is good enough, rolled back to what is whole and clean."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from recdistill.checkpoint.store import Checkpoints
from recdistill.errors import UserError
from recdistill.runs.folder import locked
from recdistill.stream.registry.promote import current, progressive_ne, promote, promotions, rollback
from recdistill.stream.registry.revoke import revoke
from tests.support.lineages import OTHER, STUDENT, Run, run_with_checkpoints


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return run_with_checkpoints(tmp_path / "run")


def test_promote_and_roll_back(run: Run) -> None:
    first = promote(run.folder, STUDENT, 100)
    second = promote(run.folder, STUDENT)
    assert (first.name, second.name, second.before) == (f"{STUDENT}/00000001", f"{STUDENT}/00000002", first.name)
    served = json.loads((run.folder.root / "serving" / "current.json").read_text())
    assert served["rows"] == 300 and served["learned_from"] == {"teacher": {"0": 80, "1": 100, "2": 90}}
    assert served["versions"]["predictions"] == 300
    copied = Checkpoints(run.folder.root / "serving" / STUDENT).load(2)
    assert copied.tensors["w"].item() == 300.0
    assert [(one.name, one.current) for one in promotions(run.folder)] == [(first.name, False), (second.name, True)]
    assert rollback(run.folder).name == first.name
    found = current(run.folder)
    assert found is not None and found.rows == 100
    with pytest.raises(UserError, match="no student was served that could be served again"):
        rollback(run.folder)
    assert promote(run.folder, STUDENT, 200).before == first.name  # the third; nothing is written over
    assert len(promotions(run.folder)) == 3


def test_what_was_promoted_and_revoked_since_is_named_and_never_served_again(run: Run) -> None:
    for rows in (100, 300, 200):
        promote(run.folder, STUDENT, rows)
    (found,) = revoke(run.folder, "teacher", range(2, 3), "bad")
    assert found.promoted == [f"{STUDENT}/00000002"] and found.serving is None
    with pytest.raises(UserError, match="learned from teacher@2, revoked since"):
        promote(run.folder, STUDENT, 300, force=True)
    assert rollback(run.folder).rows == 100
    (found,) = revoke(run.folder, "teacher", range(0, 1), "bad too")
    assert found.serving == f"{STUDENT}/00000001" and found.back_to is None


def test_a_damaged_checkpoint_is_not_promoted(run: Run) -> None:
    weights = run.folder.model(STUDENT) / "stream" / "00000300" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    with pytest.raises(UserError, match="damaged; choose another of 100, 200, 300"):
        promote(run.folder, STUDENT, force=True)
    assert promote(run.folder, STUDENT, 200).rows == 200


def test_a_student_that_is_worse_is_promoted_by_force_alone(run: Run) -> None:
    promote(run.folder, STUDENT)
    run.checkpoint(300, {0: 1}, OTHER)
    with pytest.raises(UserError, match="its NE is unknown, for too few labels"):
        promote(run.folder, OTHER)
    run.learned(300, 1.0, OTHER)
    with pytest.raises(UserError, match="1.0000: no better than the base rate"):
        promote(run.folder, OTHER)
    run.learned(50_300, 0.915, OTHER)
    run.learned(50_300, 0.9, STUDENT)
    run.checkpoint(50_300, {0: 1}, OTHER)
    with pytest.raises(UserError, match=rf"0.9150, {STUDENT}'s, which is served, 0.9000 \(margin 0.01\)"):
        promote(run.folder, OTHER)
    assert promote(run.folder, OTHER, margin=0.02).model == OTHER
    assert promote(run.folder, STUDENT).model == STUDENT  # better
    assert promote(run.folder, OTHER, force=True).before == f"{STUDENT}/00000002"


def test_ne_is_that_of_the_rows_before_the_checkpoint_alone(run: Run) -> None:
    run.learned(1300, 0.8)
    run.learned(2300, 0.7)
    assert progressive_ne(run.folder, STUDENT, 2300, 1000) == pytest.approx(0.7)
    assert progressive_ne(run.folder, STUDENT, 2299, 1000) == pytest.approx(0.8)
    assert progressive_ne(run.folder, STUDENT, 2300, 2000) == pytest.approx(0.75)
    assert progressive_ne(run.folder, STUDENT, 2300) == pytest.approx((0.7 * 1000 + 0.8 * 1000 + 0.9 * 300) / 2300)


def test_a_copy_that_was_cut_short_is_no_promotion(run: Run) -> None:
    promote(run.folder, STUDENT, 100)
    root = run.folder.root / "serving"
    (root / STUDENT / "00000002.part").mkdir()
    (root / STUDENT / "00000003").mkdir()
    assert [one.rows for one in promotions(run.folder)] == [100]
    assert promote(run.folder, STUDENT).name == f"{STUDENT}/00000004"
    with locked(root / "lock", "busy"), pytest.raises(UserError, match="another process promotes or rolls back"):
        rollback(run.folder)
    (root / "current.json").write_text("{")
    with pytest.raises(UserError, match="current.json: damaged; delete it and promote a student again"):
        rollback(run.folder)

"""Which student is served: promoted when it is good enough, rolled back to what is whole and clean."""

from __future__ import annotations

from pathlib import Path

import pytest

from recdistill.errors import UserError
from recdistill.serve.pointer import Pointer, read_pointer, write_pointer
from recdistill.stream.registry.promote import current, may_serve, progressive_ne, promotions, rollback, serving
from recdistill.stream.registry.revoke import revoke
from recdistill.tables.delta.commits import open_delta
from recdistill.train.trained import Trained, trained
from tests.support.artefacts import exported, version_of
from tests.support.lineages import JOBS, OTHER, STUDENT, Run, run_with_checkpoints


@pytest.fixture(scope="module")
def artefact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return exported(tmp_path_factory.mktemp("promote")) / "1"


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return run_with_checkpoints(tmp_path / "run")


def may(run: Run, rows: int | None = None, model: str = STUDENT, force: bool = False, margin: float = 0.01) -> Trained:
    """Return what may be served."""
    return may_serve(run.folder, JOBS[model], serving(run.folder), rows, force=force, margin=margin)


def serve(run: Run, artefact: Path, number: int, model: str, rows: int) -> None:
    """Let a version that claims to be of this checkpoint be served."""
    root = serving(run.folder)
    learned_from = trained(run.folder, JOBS[model], rows).state["learned_from"]
    version_of(artefact, root, number, model=model, lineage={"rows": rows, "learned_from": learned_from})
    before = read_pointer(root)
    write_pointer(root, before.to(number) if before else Pointer(number))


def test_the_newest_checkpoint_or_the_first_of_so_many_rows(run: Run) -> None:
    assert [may(run, rows).rows for rows in (None, 1, 100, 101, 300)] == [300, 100, 100, 200, 300]
    with pytest.raises(UserError, match="no checkpoint of 301 rows or more; there are 100, 200, 300"):
        may(run, 301)


def test_versions_are_listed_with_what_they_learned_from(run: Run, artefact: Path) -> None:
    serve(run, artefact, 1, STUDENT, 100)
    serve(run, artefact, 2, STUDENT, 300)
    root = serving(run.folder)
    assert [(one.version, one.rows, one.current) for one in promotions(root)] == [(1, 100, False), (2, 300, True)]
    found = current(root)
    assert found is not None and found.learned_from == {"teacher": {0: 80, 1: 100, 2: 90}}
    assert rollback(run.folder, root).version == 1
    with pytest.raises(UserError, match="none was served that could be served again"):
        rollback(run.folder, root)


def test_a_version_that_does_not_tell_where_it_comes_from_is_not_gone_back_to(run: Run, artefact: Path) -> None:
    root = serving(run.folder)
    version_of(artefact, root, 1, lineage={})
    write_pointer(root, Pointer(1))
    serve(run, artefact, 2, STUDENT, 300)
    assert [one.version for one in promotions(root)] == [2]
    with pytest.raises(UserError, match="none was served that could be served again"):
        rollback(run.folder, root)


def test_a_damaged_pointer_keeps_nobody_from_revoking(run: Run, artefact: Path) -> None:
    serve(run, artefact, 1, STUDENT, 300)
    (serving(run.folder) / "current.json").write_text("{")
    (found,) = revoke(run.folder, "teacher", range(2, 3), "bad")
    assert found.promoted == [1] and found.serving is None


def test_what_was_served_and_revoked_since_is_named_and_never_served_again(run: Run, artefact: Path) -> None:
    for number, rows in enumerate((100, 300, 200), 1):
        serve(run, artefact, number, STUDENT, rows)
    (found,) = revoke(run.folder, "teacher", range(2, 3), "bad")
    assert found.promoted == [2] and found.serving is None
    with pytest.raises(UserError, match="learned from teacher@2, revoked since"):
        may(run, 300, force=True)
    assert rollback(run.folder, serving(run.folder)).rows == 100
    (found,) = revoke(run.folder, "teacher", range(0, 1), "bad too")
    assert found.serving == 1 and found.back_to is None


def test_a_damaged_checkpoint_may_not_be_served(run: Run) -> None:
    weights = run.folder.model(STUDENT) / "stream" / "00000300" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    with pytest.raises(UserError, match="damaged; choose another with --rows, of 100, 200, 300"):
        may(run, force=True)
    assert may(run, 200).rows == 200


def test_a_student_that_is_worse_is_served_by_force_alone(run: Run, artefact: Path) -> None:
    serve(run, artefact, 1, STUDENT, 300)
    run.checkpoint(300, {0: 1}, OTHER)
    with pytest.raises(UserError, match="its NE is unknown, for too few labels"):
        may(run, model=OTHER)
    run.learned(300, 1.0, OTHER)
    with pytest.raises(UserError, match="1.0000: no better than the base rate"):
        may(run, model=OTHER)
    run.learned(50_300, 0.915, OTHER)
    run.learned(50_300, 0.9, STUDENT)
    run.checkpoint(50_300, {0: 1}, OTHER)
    with pytest.raises(UserError, match=rf"0.9150, {STUDENT}'s, which is served, 0.9000 \(margin 0.01\)"):
        may(run, model=OTHER)
    assert may(run, model=OTHER, margin=0.02).rows == 50_300
    assert may(run, model=OTHER, force=True).rows == 50_300
    assert may(run).rows == 300  # better


def test_ne_is_that_of_the_rows_before_the_checkpoint_alone(run: Run) -> None:
    run.learned(1300, 0.8)
    run.learned(2300, 0.7)
    assert progressive_ne(run.folder, STUDENT, 2300, 1000) == pytest.approx(0.7)
    assert progressive_ne(run.folder, STUDENT, 2299, 1000) == pytest.approx(0.8)
    assert progressive_ne(run.folder, STUDENT, 2300, 2000) == pytest.approx(0.75)
    assert progressive_ne(run.folder, STUDENT, 2300) == pytest.approx((0.7 * 1000 + 0.8 * 1000 + 0.9 * 300) / 2300)


def test_ne_is_of_the_commits_that_are_left_where_older_ones_were_removed(run: Run) -> None:
    run.learned(1300, 0.8)
    open_delta(run.predictions.path).create_checkpoint()
    run.learned(2300, 0.7)
    assert run.predictions.cut(run.predictions.version)
    assert progressive_ne(run.folder, STUDENT, 2300) == pytest.approx(0.7)
    with pytest.raises(UserError, match="its NE is unknown, for too few labels"):
        may(run)  # of 300 rows, whose commits are gone

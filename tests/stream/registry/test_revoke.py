"""What a person can take back: teachers' versions, and which student is served."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
import torch

from recdistill.checkpoint.store import Checkpoint, Checkpoints
from recdistill.errors import UserError
from recdistill.runs.folder import locked
from recdistill.stream.progress import ModelProgress, Sums, to_metadata
from recdistill.stream.registry.promote import current, progressive_ne, promote, promotions, rollback
from recdistill.stream.registry.revoke import lineage, revoke, take_over, unquarantine
from recdistill.tables.verdicts import VerdictLog, Verdicts
from tests.support.gates import START, Stream

STUDENT, OTHER = "light.distilled.s0", "wide.distilled.s0"


class Run(Stream):
    """A stream whose teacher has versions 0 to 5, with checkpoints of students as a model makes them."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.samples(600)
        for version in range(6):
            self.predict(100, version)

    def checkpoint(
        self, rows: int, learned_from: dict[int, int], model: str = STUDENT, teacher: str = "teacher"
    ) -> None:
        """Publish one that learned from so many rows of each version."""
        state = {
            "rows": rows,
            "learned_from": {teacher: {str(version): count for version, count in learned_from.items()}}
            if learned_from
            else {},
            "versions": {"events": 3, "behaviors": None, "outcomes": None, "predictions": rows, "verdicts": 5},
        }
        Checkpoints(self.folder.model(model) / "stream", keep_sparse=True).publish(
            rows, Checkpoint({"w": torch.tensor([float(rows)])}, state)
        )

    def learned(self, rows: int, ne: float, model: str = STUDENT) -> None:
        """Commit that `model` has predicted `rows` rows so far; over those since the last time its NE was `ne`."""
        new = rows - self.at.get(model, 0)
        loss = ne * new * 0.5004024235381879  # the entropy of a rate of 0.2
        old = self.sums.get(model, Sums())
        self.sums[model] = Sums(old.labels + new, old.positives + 0.2 * new, 0.0, old.logloss + loss)
        self.at[model] = rows
        progress = to_metadata(ModelProgress(rows=rows, sums=self.sums[model]))
        self.predictions.mark(f"{model}@x/stream", self._next(model), {"model": model, **progress})

    @property
    def sums(self) -> dict[str, Sums]:
        """The running sums by model."""
        return self.__dict__.setdefault("_sums", {})


@pytest.fixture
def run(tmp_path: Path) -> Run:
    made = Run(tmp_path / "run")
    made.checkpoint(100, {0: 80})
    made.checkpoint(200, {0: 80, 1: 100})
    made.checkpoint(300, {0: 80, 1: 100, 2: 90})
    for rows in (100, 200, 300):
        made.learned(rows, 0.9)
    return made


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
    before = run.verdicts.version
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
        (lambda: promote(run.folder, "light"), "no student 'light'"),
        (lambda: promote(run.folder, "teacher"), "no student 'teacher'"),
        (lambda: promote(run.folder, STUDENT, 250), "no checkpoint of 250 rows; there are 100, 200, 300"),
        (lambda: rollback(run.folder), "nothing is served"),
    ):
        with pytest.raises(UserError, match=problem):
            call()
    assert run.verdicts.version == before and current(run.folder) is None


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

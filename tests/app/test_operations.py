"""The operator's verbs, as typed: what they print, what they refuse, and that a model acts on them."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest
import torch

from recdistill.app.operations import versions_of
from recdistill.data.store.memmap import write_json
from recdistill.errors import UserError
from recdistill.serve.scorer import Scorer
from recdistill.stream.registry.promote import verdicts_of
from recdistill.tables.delta.log import DeltaLog
from recdistill.tables.events import EventLog
from recdistill.tables.verdicts import VerdictLog
from tests.support.commands import typed
from tests.support.stream_runs import StreamRun, experiment_of, models_of


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> StreamRun:
    """A stream that has ended, every version learned from."""
    torch.set_num_threads(1)
    made = StreamRun(tmp_path_factory.mktemp("operate") / "run", experiment_of(), 1500)
    write_json(made.root / "run.json", {"experiment": made.experiment.model_dump(mode="json"), "data": ""})
    made.feed_all([2000])
    made.approve(range(3, 6))
    for job in models_of(made.experiment):
        made.run(job)
    return made


def test_lineage_promotion_revocation_and_the_way_back(run: StreamRun) -> None:
    student, root = models_of(run.experiment)[2].name, run.root / "serving"
    code, printed = typed("lineage", run.root, student)
    assert code == 0 and "teacher@3: 500, teacher@4: 500, teacher@5: 500" in printed and "predictions" in printed
    code, printed = typed("promote", run.root, student, "--rows", 500, "--force")
    assert code == 0 and f"{student} after 500 rows -> {root / '1'}" in printed and "served: version 1" in printed
    code, printed = typed("promote", run.root, student, "--force", "--candidate")
    assert code == 0 and "not served yet: version 2" in printed and Scorer.open(root).version == 1
    code, printed = typed("promote", run.root, student, "--force")
    assert code == 0 and Scorer.open(root).artefact.manifest.lineage["rows"] == 1500
    code, printed = typed("revoke", run.root, "4-5", "--reason", "labels flipped")
    assert code == 0 and "500 rows" in printed and "2, 3 (served now)" in printed
    for verb in (
        ["promote", run.root, student, "--force"],
        ["export", run.root, student, "--to", run.root / "serving"],
    ):
        code, printed = typed(*verb)
        assert code == 2 and "teacher@4" in printed and printed.count("\n") == 1
    code, printed = typed("rollback", run.root)
    assert code == 0 and f"served: version 1, {student} after 500 rows" in printed and Scorer.open(root).version == 1
    for folder in (run.root, root):
        code, printed = typed("rollback", folder)
        assert code == 2 and printed.startswith("recdistill: ") and "could be served again" in printed
    assert run.run(models_of(run.experiment)[2]).state["learned_from"] == {"teacher": {"3": 500}}
    code, printed = typed("unquarantine", run.root, "4")
    assert code == 0
    code, printed = typed("unquarantine", run.root, "4")
    assert code == 2 and "nothing to unquarantine" in printed


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["revoke", "RUN", "99", "--reason", "x"], "has versions 0 to 5"),
        (["revoke", "RUN", "4", "--model", "teachr", "--reason", "x"], "did you mean 'teacher'"),
        (["lineage", "RUN", "light.distiled.s0"], "did you mean 'light.distilled.s0'"),
        (["promote", "RUN", "light.raw.s0", "--from", "2024-01-01"], "--from goes with a teacher"),
        (["promote", "RUN", "teacher", "--candidate"], "--to, --candidate go with a student"),
        (["promote", "RUN", "light.raw.s0", "--rows", "9999"], "no checkpoint of 9,999 rows or more; there are 500"),
        (["export", "RUN", "light", "--to", "x", "--rows", "1", "--checkpoint", "x"], "give one of them"),
        (["export", "RUN", "light", "--to", "x", "--checkpoint", "/nowhere/1"], "/nowhere/1: no checkpoint"),
        (["rollback", "/nowhere"], "holds no run"),
        (["compact", "/nowhere"], "holds no run"),
        (["stream", "/nowhere.yaml"], "cannot read the experiment file"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(run: StreamRun, words: list[str], problem: str) -> None:
    code, printed = typed(*(str(run.root) if word == "RUN" else word for word in words))
    assert code == 2 and problem in printed and printed.count("\n") == 1


def test_a_teacher_takes_over_from_a_time_in_utc(run: StreamRun) -> None:
    code, printed = typed("promote", run.root, "teacher", "--from", "2026-01-31T12:30:00")
    assert code == 0 and "students learn from teacher for samples from 2026-01-31T12:30:00+00:00 on" in printed
    assert verdicts_of(run.folder).active_teacher_from[-1] == (datetime(2026, 1, 31, 12, 30, tzinfo=UTC), "teacher")


def test_a_round_of_housekeeping_merges_and_lets_old_days_go(run: StreamRun, tmp_path: Path) -> None:
    root = tmp_path / "run"
    shutil.copytree(run.root, root)
    extra = DeltaLog(root / "tables" / "events")
    old = run.rows[:1].with_columns(sample_id=pl.lit(-1, pl.Int64), time=pl.col("time") - pl.duration(days=90))
    EventLog.open(extra.path).append(old, writer="old", sequence=0)
    for k in range(60):
        VerdictLog.open(root / "verdicts").append(
            VerdictLog.row("teacher", 3, "approved", rows=1), writer="gate", sequence=1000 + k
        )
    rows = extra.rows()
    code, printed = typed("compact", root, "--retain-days", 30)
    assert code == 0 and "1 tables merged" in printed and "table=verdicts" in printed and "let go" in printed
    assert extra.rows() == rows - 1 and len(DeltaLog(root / "verdicts").parts()) < 10


def test_versions_are_one_or_a_range() -> None:
    assert (versions_of("12"), versions_of("12-14")) == (range(12, 13), range(12, 15))
    for wrong in ("", "a", "3-", "-3", "1.5", "\u00b2", "9" * 10, "1-99999999999999999999"):
        with pytest.raises(UserError, match="write one, as 12"):
            versions_of(wrong)

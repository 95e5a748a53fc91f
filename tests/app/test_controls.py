"""Controls and several seeds of the teacher, through a whole run: trained, scored, printed, reported."""

from __future__ import annotations

from pathlib import Path

import pytest

from recdistill.app.run import open_run, report_stage, run_stages
from recdistill.app.scores import print_summary
from recdistill.checkpoint.store import Checkpoints
from recdistill.evaluate.summary import Summary, load
from recdistill.report.page import render
from tests.support.runs import same_bits, tiny

SETTINGS = (
    "data.options.rows=1500",
    "evaluate.seeds=[0,1]",
    "candidates.count=2",
    "students.light.distill={weight: 1.0, candidates: 2}",
)


def summary_of(root: Path, *settings: str) -> Summary:
    experiment = tiny(*SETTINGS, *settings)
    with open_run(experiment, None, root) as folder:
        summary = run_stages(folder, experiment, None)
        report_stage(folder)
    return summary


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Summary]:
    root = tmp_path_factory.mktemp("controls") / "run"
    return root, summary_of(root, "controls=[self,compute]", "evaluate.teacher_seeds=2")


def test_controls_are_scored_beside_the_pair(run: tuple[Path, Summary], capsys: pytest.CaptureFixture[str]) -> None:
    root, summary = run
    student = summary.students["light"]
    assert list(student.controls) == ["self", "compute"]
    assert summary.models.teacher.seeds == [0, 1]
    own, compute = student.controls["self"].model, student.controls["compute"].model
    assert own.auc not in (None, student.distilled.auc, student.raw.auc)
    assert compute.rows_learned == pytest.approx(student.distilled.rows_learned, rel=0.02)
    print_summary(summary)
    said = capsys.readouterr().out
    assert "light: eta beyond self (gauc)" in said and "light control: compute" in said
    page = render(load(root / "summary.json"))
    assert "<h2>Controls</h2>" in page and "distilled by a raw student of its own kind" in page
    assert "eta is about this one teacher" not in page


def test_a_run_without_them_trains_the_same_pair_and_says_what_it_does_not_know(
    run: tuple[Path, Summary], tmp_path: Path
) -> None:
    alone = summary_of(tmp_path / "alone")
    page = render(alone)
    assert "controls: [self]" in page and "eta is about this one teacher" in page and "<h2>Controls</h2>" not in page
    for name in ("teacher", "light.raw.s0", "light.raw.s1", "light.distilled.s0"):
        one, other = (Checkpoints(root / "models" / name).latest() for root in (run[0], tmp_path / "alone"))
        assert one is not None and other is not None and same_bits(one[1].tensors, other[1].tensors), name

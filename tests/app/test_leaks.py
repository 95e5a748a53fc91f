"""The leak probe of a run: with every ingest, kept, asked again when the window changes, in console and summary."""

from __future__ import annotations

from pathlib import Path

import pytest

from recdistill.app import leaks
from recdistill.app.leaks import FILE, leaks_of, with_leaks
from recdistill.app.run import ingest_stage, open_run
from recdistill.evaluate.leaks import Leaks, RuleScore
from recdistill.runs.folder import RunFolder
from tests.support.runs import ingested, tiny
from tests.support.summaries import sample_summary


def test_it_runs_with_the_ingest_and_is_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment = tiny()
    folder = ingested(tmp_path / "run", experiment)
    text = " ".join(capsys.readouterr().out.split())
    assert "simple rules on 200 scored rows, best AUC: " in text and "warning" not in text
    found = Leaks.model_validate_json((folder.root / FILE).read_text())
    assert {"pair", "position", "order"} <= {rule.rule for rule in found.rules} and found.rows == 200
    monkeypatch.setattr(leaks, "probe", None)  # would fail if it was asked again
    assert leaks_of(folder, experiment) == found
    with open_run(experiment, None, folder.root) as again:
        ingest_stage(again, experiment, None)
    assert "simple rules on 200 scored rows" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("key", ["evaluate.start=0.25", "evaluate.group=request"])
def test_another_window_asks_again(key: str, tmp_path: Path) -> None:
    folder = ingested(tmp_path / "run", tiny())
    before = leaks_of(folder, tiny())
    after = leaks_of(folder, tiny(key))
    assert after != before and leaks_of(RunFolder(folder.root), tiny(key)) == after


def test_a_damaged_file_is_made_again(tmp_path: Path) -> None:
    folder = ingested(tmp_path / "run", tiny())
    found = leaks_of(folder, tiny())
    (folder.root / FILE).write_text("{")
    assert leaks_of(folder, tiny()) == found


def test_the_best_raw_student_is_what_rules_are_held_against(tmp_path: Path) -> None:
    found = leaks_of(ingested(tmp_path / "run", tiny()), tiny()).model_copy(update={"rows": 10**6, "warnings": []})
    for gauc, warnings in ((0.73, 0), (0.75, 1)):  # the raw students of the sample have 0.7392
        rule = RuleScore(rule="pair", text="the pair", auc=0.7, gauc=gauc)
        summary = with_leaks(sample_summary(), found.model_copy(update={"rules": [rule]}))
        assert summary.leaks is not None and len(summary.leaks.warnings) == warnings
        assert summary.warnings == [*sample_summary().warnings, *summary.leaks.warnings]

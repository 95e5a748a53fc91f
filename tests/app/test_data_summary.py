"""What a run's log holds: counted with the ingest, kept, printed, and among the summary's warnings."""

from __future__ import annotations

from pathlib import Path

import pytest

from recdistill.app import data_summary
from recdistill.app.data_summary import FILE, data_of, print_data, with_data
from recdistill.evaluate.data_summary import DataSummary, FeatureSummary
from tests.support.runs import ingested, tiny
from tests.support.summaries import sample_summary


def test_it_is_counted_with_the_ingest_and_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = ingested(tmp_path / "run", tiny())
    text = " ".join(capsys.readouterr().out.split())
    found = DataSummary.model_validate_json((folder.root / FILE).read_text())
    assert f"data: click {100 * (found.tasks[0].positive or 0):.3g} % positive of {found.tasks[0].rows} known" in text
    assert all(f"{one.feature} {one.kind} " in text for one in found.features) and found.rows == 400
    monkeypatch.setattr(data_summary, "describe", None)  # would fail if it was asked again
    assert data_of(folder) == found


def test_a_damaged_file_is_made_again(tmp_path: Path) -> None:
    folder = ingested(tmp_path / "run", tiny())
    found = data_of(folder)
    (folder.root / FILE).write_text("{")
    assert data_of(folder) == found


def test_many_features_are_cut_and_warnings_stand_first(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = data_of(ingested(tmp_path / "run", tiny()))
    empty = [FeatureSummary(feature=f"f{k}", kind="category", empty=0.97, values=4) for k in range(3)]
    found = found.model_copy(update={"features": empty})
    monkeypatch.setattr(data_summary, "SHOWN", 2)
    capsys.readouterr()
    print_data(found)
    text = capsys.readouterr().out
    assert "f1" in text.split("further features")[0] and f"further features in {FILE}: 1" in text
    assert "warning: Feature 'f2' is empty in 97 % of the rows" in text
    summary = with_data(sample_summary(), found)
    assert summary.warnings == [*found.warnings(), *sample_summary().warnings] and summary.data == found

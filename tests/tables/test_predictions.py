"""One prediction per model, version and sample; a prequential one is made once."""

from __future__ import annotations

from pathlib import Path

import pytest

from recdistill.errors import UserError
from recdistill.tables.predictions import Kind, PredictionLog
from tests.support.tables import make_predictions, predicted


def test_a_prequential_prediction_is_made_once(tmp_path: Path) -> None:
    log = make_predictions(tmp_path / "p", [range(10), range(10, 20)])
    fault = "^predictions of teacher: column 'sample_id': 13 has a prequential prediction of version 1 already"
    with pytest.raises(UserError, match=fault):
        log.append(
            predicted([40, 13, 41]), model="teacher", version=2, kind="prequential", writer="another run", sequence=0
        )
    assert (log.version, log.rows()) == (2, 20)
    log.append(predicted([13]), model="another", version=2, kind="prequential", writer="another run", sequence=0)
    log.append(predicted([13]), model="teacher", version=2, kind="crossfit", writer="another run", sequence=1)
    assert log.models() == [
        ("another", 2, "prequential", 1),
        ("teacher", 2, "crossfit", 1),
        ("teacher", 1, "prequential", 20),
    ]


@pytest.mark.parametrize("kind", ["imported", "crossfit"])
def test_other_kinds_predict_once_a_version(tmp_path: Path, kind: Kind) -> None:
    log = make_predictions(tmp_path / "p")
    log.append(predicted(range(5)), model="m", version=1, kind=kind, writer="w", sequence=0)
    log.append(predicted(range(5)), model="m", version=2, kind=kind, writer="w", sequence=1)
    with pytest.raises(UserError, match=f"4 has a {kind} prediction of version 2 already"):
        log.append(predicted(range(4, 8)), model="m", version=2, kind=kind, writer="w", sequence=2)
    assert log.models() == [("m", 2, kind, 10)]


def test_lineage_tells_each_commit_of_a_model(tmp_path: Path) -> None:
    log = PredictionLog.create(tmp_path / "p", ("click",))
    for version in range(3):
        log.append(
            predicted([version]),
            model="m",
            version=version,
            kind="prequential",
            writer="w",
            sequence=version,
            metadata={"config": f"hash {version}"},
        )
    log.append(predicted([9]), model="other", version=0, kind="prequential", writer="o", sequence=0)
    assert [(entry["model_version"], entry["config"]) for entry in log.lineage("m")] == [
        (str(k), f"hash {k}") for k in range(3)
    ]
    (tmp_path / "p" / "_delta_log" / f"{1:020d}.json").unlink()  # as `cut` does with old ones
    assert [entry["version"] for entry in log.lineage("m")] == ["2", "3"]


def test_a_model_needs_a_name(tmp_path: Path) -> None:
    log = make_predictions(tmp_path / "p")
    with pytest.raises(UserError, match="name of their model"):
        log.append(predicted([1]), model="", version=1, kind="prequential", writer="w", sequence=0)

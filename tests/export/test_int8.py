"""A model exported with rows of bytes: smaller, served, and refused where it costs too much."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest

from recdistill.api.run import Run
from recdistill.errors import UserError
from recdistill.export.int8 import Int8, int8_lines, quantise, quantised
from recdistill.runs.jobs import jobs_of
from recdistill.serve.artefact import open_artefact
from recdistill.serve.bench_requests import drawn_requests, request_of
from recdistill.serve.rows import Int8Rows
from recdistill.serve.scorer import Scorer
from recdistill.train.predict import Predictor
from tests.support.runs import finish, tiny


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    root = tmp_path_factory.mktemp("int8") / "run"
    finish(root, tiny("teacher.width=8"), "teacher")
    return Run(root)


def test_bytes_are_served_and_are_close(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run.model("teacher").export(tmp_path)
    before = Scorer.open(tmp_path)
    run.model("teacher").export(tmp_path, int8_loss=0.01)
    printed = capsys.readouterr().out
    after, cost = Scorer.open(tmp_path), open_artefact(tmp_path).manifest.int8
    assert all(isinstance(table, Int8Rows) for table in after.artefact.tables) and not before.artefact.manifest.int8
    assert all(line in printed for line in int8_lines(cost)) and "NE" in printed
    assert cost["bytes"][1] < cost["bytes"][0] and 0 < cost["difference"] < 0.05 and cost["rows"] == 200
    for body in drawn_requests(before.artefact, 20, 5, 3):
        request = request_of(body)
        np.testing.assert_allclose(after.rank(request), before.rank(request), atol=0.05)
        assert not np.array_equal(after.rank(request), before.rank(request))


def test_it_is_refused_where_it_costs_more_than_may_be(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows of two values, their least and their largest."""
    monkeypatch.setattr("recdistill.serve.rows.CODES", 1)
    with pytest.raises(UserError, match="int8 rows raise NE by .* more than 0; not published; allow more"):
        run.model("teacher").export(tmp_path, int8_loss=0.0)
    assert not [path for path in tmp_path.iterdir() if path.is_dir()]


def test_what_cannot_be_measured_is_refused(run: Run, tmp_path: Path) -> None:
    predictor = Predictor(run.folder, run.experiment, jobs_of(run.experiment)[0])
    with pytest.raises(UserError, match="gives no NE"):
        quantised(tmp_path, predictor, [], Int8(1.0, start=1.0))


def test_narrow_rows_stay_as_they_are(tmp_path: Path) -> None:
    for number, width in enumerate((2, 3)):
        np.save(tmp_path / f"table_{number}.npy", np.ones((5, width), np.float32))
    quantise(tmp_path, [0, 1])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["table_0.npy", "table_1.npy", "table_1.range.npy"]


def test_the_network_that_is_compared_is_left_as_it_was(run: Run, tmp_path: Path) -> None:
    predictor = Predictor(run.folder, run.experiment, jobs_of(run.experiment)[0])
    state = copy.deepcopy(predictor.learner.network.state_dict())
    np.save(tmp_path / "table_0.npy", np.ones((run_rows(predictor), 8), np.float32))
    twin, _ = quantised(tmp_path, predictor, [0], Int8(1e9, start=0.5))
    assert twin.learner.network is not predictor.learner.network
    assert all(np.array_equal(value, state[name]) for name, value in predictor.learner.network.state_dict().items())


def run_rows(predictor: Predictor) -> int:
    return max(predictor.store.items, predictor.store.users, predictor.store.contexts)

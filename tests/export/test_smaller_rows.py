"""A model exported with smaller rows, or fewer: served as it was measured, and refused where it costs too much."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest

from recdistill.api.run import Run
from recdistill.app.export import exported
from recdistill.data.batch.builder import BatchBuilder
from recdistill.errors import UserError
from recdistill.evaluate.metrics import auc
from recdistill.export.smaller_rows import cost_lines, made_smaller, window_rows
from recdistill.models.embeddings.growable import GrowableTable
from recdistill.models.factory import table_modules
from recdistill.runs.jobs import jobs_of
from recdistill.serve.artefact import open_artefact
from recdistill.serve.bench_requests import drawn_requests, request_of
from recdistill.serve.rows import CodedRows, HalfRows, KeptRows, SmallerRows
from recdistill.serve.scorer import Scorer
from recdistill.train.predict import Predictor, newest_of
from tests.support.runs import finish, tiny

KINDS = {
    "half": (SmallerRows("float16", max_loss=1.0), HalfRows, 0.54, 1e-3),
    "bytes": (SmallerRows("int8", max_loss=1.0), CodedRows, 0.62, 0.05),
    "nibbles": (SmallerRows("int4", max_loss=1.0), CodedRows, 0.39, 0.5),
    "without the shortest": (SmallerRows(drop=0.3, max_loss=1.0), KeptRows, 0.82, 3.0),
    "without the rare": (SmallerRows(min_seen=5, max_loss=1.0), KeptRows, 0.98, 3.0),
    "few and small": (SmallerRows("int4", 0.3, 5, 1.0), KeptRows, 0.39, 3.0),
}

COARSE = SmallerRows("int4", max_loss=1.0)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    root = tmp_path_factory.mktemp("smaller") / "run"
    finish(root, tiny("teacher.width=8"), "teacher")
    return Run(root)


@pytest.fixture(scope="module")
def plain(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Scorer:
    folder = tmp_path_factory.mktemp("plain")
    run.model("teacher").export(folder)
    return Scorer.open(folder)


@pytest.mark.parametrize("name", KINDS)
def test_smaller_rows_are_served_as_they_were_scored(
    run: Run, plain: Scorer, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    """Export itself compares the graph's logits with those of the network that has these rows."""
    smaller, kind, share, near = KINDS[name]
    run.model("teacher").export(tmp_path, smaller=smaller)
    printed = capsys.readouterr().out
    after, cost = Scorer.open(tmp_path), open_artefact(tmp_path).manifest.rows
    assert any(isinstance(table, kind) for table in after.artefact.tables.values())
    assert all(line in printed for line in cost_lines(cost)) and "NE" in printed
    assert 0.05 < cost["bytes"][1] / cost["bytes"][0] < share and 0 < cost["difference"] and cost["scored"] == 200
    assert (cost["kept"][0] < cost["kept"][1]) == smaller.prunes
    for body in drawn_requests(plain.artefact, 20, 5, 3):
        request = request_of(body)
        np.testing.assert_allclose(after.rank(request), plain.rank(request), atol=near)
        assert not np.array_equal(after.rank(request), plain.rank(request))


def test_as_they_are_nothing_is_scored(plain: Scorer) -> None:
    assert plain.artefact.manifest.rows == {}


def test_it_is_refused_where_it_costs_more_than_may_be(run: Run, tmp_path: Path) -> None:
    smaller = SmallerRows("int4", max_loss=0.0)
    with pytest.raises(UserError, match="int4 rows, 152 of 152, raise NE by .* more than 0; not published; allow more"):
        run.model("teacher").export(tmp_path, smaller=smaller)
    assert not [path for path in tmp_path.iterdir() if path.is_dir()]


def test_what_cannot_be_measured_is_refused(run: Run, tmp_path: Path) -> None:
    predictor = Predictor(run.folder, run.experiment, jobs_of(run.experiment)[0])
    np.save(tmp_path / "table_0.npy", np.ones((run_rows(predictor), 8), np.float32))
    with pytest.raises(UserError, match="gives no NE"):
        made_smaller(tmp_path, predictor, first_table(predictor), SmallerRows("int8"), start=1.0)


def test_the_network_that_is_compared_is_left_as_it_was(run: Run, tmp_path: Path) -> None:
    predictor = Predictor(run.folder, run.experiment, jobs_of(run.experiment)[0])
    state = copy.deepcopy(predictor.learner.network.state_dict())
    np.save(tmp_path / "table_0.npy", np.ones((run_rows(predictor), 8), np.float32))
    twin, _ = made_smaller(tmp_path, predictor, first_table(predictor), SmallerRows("int8", max_loss=1e9), start=0.5)
    assert twin.learner.network is not predictor.learner.network
    assert all(np.array_equal(value, state[name]) for name, value in predictor.learner.network.state_dict().items())


def test_gauc_is_by_request_where_the_run_is_scored_so(run: Run, tmp_path: Path) -> None:
    experiment = run.experiment.model_copy(
        update={"evaluate": run.experiment.evaluate.model_copy(update={"group": "request"})}
    )
    job = jobs_of(experiment)[0]
    _, manifest = exported(run.folder, experiment, job, tmp_path, newest_of(run.folder, job), smaller=COARSE)
    by_user = run.model("teacher").export(tmp_path / "by user", smaller=COARSE)
    predictor = Predictor(run.folder, experiment, job)
    rows, store = window_rows(predictor, experiment.evaluate.start), predictor.store
    logits = predictor.learner.predict(BatchBuilder.of(store, job.config).build(rows))[:, 0].numpy()
    lists = [np.flatnonzero(store.request[rows] == one) for one in np.unique(store.request[rows])]
    areas = [(auc(store.labels[rows[at], 0], logits[at]), len(at)) for at in lists]
    known = [(area, count) for area, count in areas if not np.isnan(area)]
    expected = np.average([area for area, _ in known], weights=[count for _, count in known])
    cost, other = manifest.rows, open_artefact(by_user).manifest.rows
    assert cost["gauc"][0] == pytest.approx(expected, abs=1e-12) and cost["ne"] == other["ne"]
    assert "GAUC by request 0." in cost_lines(cost)[1] and "GAUC by user 0." in cost_lines(other)[1]


def first_table(predictor: Predictor) -> dict[str, GrowableTable]:
    return {"table_0": table_modules(predictor.learner.network)[0]}


def run_rows(predictor: Predictor) -> int:
    return max(predictor.store.items, predictor.store.users, predictor.store.contexts)

"""Histories that a server keeps: a request that brings none is ranked as the trainer would have ranked it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from fastapi.testclient import TestClient

from recdistill.api.run import Run
from recdistill.errors import UserError
from recdistill.serve.app import make_app
from recdistill.serve.histories import KeptHistories, open_histories
from recdistill.serve.histories_file import FILE
from recdistill.serve.limits import Limits
from recdistill.serve.live import Live
from recdistill.serve.meters import Meters
from recdistill.serve.request import Past, Request
from recdistill.serve.service import Service
from recdistill.stream.histories.process import longest, run_histories
from recdistill.tables.events import EventLog
from tests.support.artefacts import exported
from tests.support.redis_server import free_port

DAY = 86_400.0


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run with its histories kept, and its teacher exported next to it."""
    versions = exported(tmp_path_factory.mktemp("kept"))
    made = Run(versions.parent / "run")
    run_histories(made.folder, made.experiment, None, 5, once=True)
    return made


@pytest.fixture
def service(run: Run) -> Service:
    made = Service(Live(run.folder.root.parent / "versions"), Limits())
    made.histories = open_histories(str(run.folder.root), made.live, made.meters)
    return made


@pytest.fixture
def client(service: Service) -> Iterator[TestClient]:
    with TestClient(make_app(service)) as made:
        yield made


@pytest.mark.parametrize("number", range(4))
def test_a_request_without_a_history_gives_what_predict_gives(run: Run, client: TestClient, number: int) -> None:
    log = pl.concat(EventLog.open(run.folder.tables / "events").batches())
    rows = log[np.random.default_rng(number).integers(0, len(log), 1 + number)]
    user, moment = int(rows["user_id"][0]), log["time"][-1].timestamp() + DAY
    features = {
        name: rows[f"feature_{name}"].to_list() for name in EventLog.open(run.folder.tables / "events").schema.features
    }
    body = {"user": user, "items": rows["item_id"].to_list(), "time": moment, "item_features": features}
    answer = client.post("/v1/rank", json=body).json()
    new = rows.rename(lambda column: column.removeprefix("feature_")).with_columns(
        user_id=pl.lit(user),
        time=pl.from_epoch(pl.lit(int(moment * 1e6)), "us").dt.replace_time_zone("UTC"),
        sample_id=pl.int_range(pl.len()),
    )
    wanted = run.model("teacher").predict(new)
    assert answer["history"] == "kept"
    for task, scores in answer["scores"].items():
        np.testing.assert_allclose(scores, wanted[f"probability_{task}"].to_numpy(), atol=1e-5)
    without = client.post("/v1/rank", json={**body, "history": {}}).json()
    assert without["history"] == "request" and without["scores"] != answer["scores"]


def test_a_user_of_whom_nothing_is_kept_and_nobody_have_none(client: TestClient) -> None:
    for user in (10**12, None):
        assert client.post("/v1/rank", json={"user": user, "items": [1]}).json()["history"] == "none"
    assert 'recdistill_histories_total{kept="none"} 1.0' in client.get("/metrics").text
    answer = client.post("/v1/rank", json={"user": "who", "items": [1]})
    assert answer.status_code == 422 and answer.json()["error"].startswith("user: a whole number was expected")


def test_histories_that_are_away_are_gone_without_and_the_answer_says_so(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    service = Service(Live(run.folder.root.parent / "versions"), Limits())
    service.histories = open_histories(f"redis://127.0.0.1:{free_port()}/0", service.live, service.meters)
    assert "requests are answered without, until it answers" in capsys.readouterr().out
    with TestClient(make_app(service)) as client:
        answer = client.post("/v1/rank", json={"user": 1, "items": [1]})
        assert answer.status_code == 200 and answer.json()["history"] == "away"
        shown = client.get("/metrics").text
    assert 'recdistill_histories_total{kept="away"} 1.0' in shown and "recdistill_histories_age_seconds +Inf" in shown


def test_a_file_that_is_gone_is_away(run: Run, tmp_path: Path) -> None:
    (tmp_path / "past").write_bytes((run.folder.root / FILE).read_bytes())
    service = Service(Live(run.folder.root.parent / "versions"), Limits())
    service.histories = open_histories(str(tmp_path / "past"), service.live, service.meters)
    (tmp_path / "past").write_bytes(b"nothing" * 1000)
    with TestClient(make_app(service)) as client:
        assert client.post("/v1/rank", json={"user": 1, "items": [1]}).json()["history"] == "away"


def test_how_old_they_are_is_shown(client: TestClient) -> None:
    line = next(one for one in client.get("/metrics").text.splitlines() if one.startswith("recdistill_histories_age"))
    assert 0 <= float(line.split()[1]) < 3600


def test_fewer_events_than_the_model_reads_are_refused(run: Run, tmp_path: Path) -> None:
    class Short:
        def of(self, user: str) -> Past | None:
            return None

        def length(self) -> int:
            return 4

        def age(self) -> float:
            return 0.0

    with pytest.raises(UserError, match="4 events are kept of a user, and the model reads 5; run: recdistill hist"):
        KeptHistories(Short(), Live(run.folder.root.parent / "versions"), Meters())
    assert longest(run.experiment) == 5


def test_a_version_that_reads_more_than_is_kept_is_counted(run: Run) -> None:
    """One that came after the server had begun."""
    service = Service(Live(run.folder.root.parent / "versions"), Limits())
    service.histories = open_histories(str(run.folder.root), service.live, service.meters)
    service.histories.kept = 4
    service.histories.of(1)
    assert "recdistill_histories_short_total 1.0" in service.meters.page().decode()


def test_an_action_that_the_model_does_not_know_counts_as_its_first(run: Run) -> None:
    scorer = Live(run.folder.root.parent / "versions").scorer
    past = Past([1, 2], [1.0, 2.0], ["negative", "watched"], [1.0, 2.0], origin="kept")
    same = Past([1, 2], [1.0, 2.0], ["negative", "negative"])
    assert np.array_equal(
        scorer.rank(Request(1, [1], 1e9, history=past)), scorer.rank(Request(1, [1], 1e9, history=same))
    )
    with pytest.raises(UserError, match="history.actions: one of"):
        scorer.rank(Request(1, [1], 1e9, history=Past([1], [1.0], ["watched"])))


def test_events_come_in_the_order_in_which_they_became_known(run: Run) -> None:
    scorer = Live(run.folder.root.parent / "versions").scorer
    items = [1, 2, 3, 4, 5, 6]
    late = Past(items, [float(k) for k in items], ["positive"] * 6, [99.0, 2.0, 3.0, 4.0, 5.0, 6.0])
    newest = Past([3, 4, 5, 6, 1], [3.0, 4.0, 5.0, 6.0, 1.0], ["positive"] * 5, [3.0, 4.0, 5.0, 6.0, 7.0])
    one, other = (scorer.rank(Request(1, [1], 100.0, history=past)) for past in (late, newest))
    assert np.array_equal(one, other)
    with pytest.raises(UserError, match="history.known: a time per item was expected, 1; got 2"):
        scorer.rank(Request(1, [1], 1e9, history=Past([1], [1.0], ["positive"], [1.0, 2.0])))

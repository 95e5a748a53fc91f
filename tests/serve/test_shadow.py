"""A shadow scores what was served behind its back, and ends up in the predictions table as a model of its own."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from recdistill.app.spooled import take_spool
from recdistill.errors import UserError
from recdistill.evaluate.summary import load, write_summary
from recdistill.serve.backlog import WAITING
from recdistill.serve.impressions import events_of
from recdistill.serve.limits import Limits
from recdistill.serve.live import Live
from recdistill.serve.pointer import Pointer, write_pointer
from recdistill.serve.request import Past, Request
from recdistill.serve.scorer import Scorer
from recdistill.serve.server import Extras, opened
from recdistill.serve.service import Served, Service
from recdistill.serve.shadow import Shadow, learned, of_folder, record_of
from recdistill.serve.spool import SPOOL, Spool, finished
from recdistill.tables.predictions import PredictionLog
from recdistill.typing import Array
from tests.support.artefacts import happened, two_versions
from tests.support.commands import typed
from tests.support.summaries import withheld_summary

ITEMS = [1, 2, 3, 4]


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return two_versions(tmp_path_factory.mktemp("shadow"))


@pytest.fixture
def root(exported: Path) -> Path:
    write_pointer(exported, Pointer(1))
    for path in (exported / SPOOL).glob("*"):
        path.unlink()
    return exported


def asked(app: FastAPI, users: range) -> dict[str, list[float]]:
    """Return the answers of an application, by request."""
    with TestClient(app) as client:
        return {
            f"r{user}": client.post(
                "/v1/rank", json={"user": user, "items": ITEMS, "time": 1e9}, headers={"x-request-id": f"r{user}"}
            ).json()["scores"]["click"]
            for user in users
        }


def test_it_scores_the_same_requests_and_changes_no_answer(root: Path) -> None:
    with opened(root, Limits(), Extras(shadow="2")) as app:
        answers = asked(app, range(20))
    with opened(root, Limits()) as alone:
        assert answers == asked(alone, range(20))
    (path,) = (root / SPOOL).glob("*.jsonl")
    other = Scorer.open(root, version=2)
    with finished(path) as records:
        assert records is not None and [one["request"] for one in records] == list(answers)
        for user, record in enumerate(records):
            wanted = learned(other.rank(Request(user, ITEMS, 1e9)), other.artefact.manifest)
            assert record["logits"]["shadow.v2"]["click"] == wanted[:, 0].tolist() and record["items"] == ITEMS
    text = app.state.service.meters.registry.get_sample_value
    assert text("recdistill_shadow_requests_total", {"state": "scored"}) == 20
    assert text("recdistill_shadow_candidates_total") == 80
    served = sum(map(sum, answers.values()))
    assert text("recdistill_shadow_predicted_total", {"task": "click", "by": "served"}) == pytest.approx(served, 1e-5)
    assert (text("recdistill_shadow_logit_difference_total", {"task": "click"}) or 0) > 0


def test_a_share_of_the_requests(root: Path) -> None:
    with opened(root, Limits(), Extras(shadow="2", shadow_share=0.0)) as app:
        asked(app, range(5))
    assert not list((root / SPOOL).glob("*.jsonl"))


class Slow(Scorer):
    """One that does not score before it may."""

    may = threading.Event()

    def rank(self, request: Request) -> Array:
        self.may.wait()
        return super().rank(request)


def test_what_it_cannot_keep_up_with_is_dropped_and_counted(root: Path) -> None:
    live, service = Live(root), Service(Live(root), Limits())
    slow = Slow(of_folder(root, "2").artefact)
    shadow = Shadow(slow, live, 1.0, root / SPOOL, service.meters.registry)
    request = Request(1, ITEMS, 1e9, history=Past())
    answer = Served(request, 1, "teacher", live.scorer.rank(request), 1e9, "r")
    for _ in range(WAITING + 10):
        shadow(answer)
    Slow.may.set()
    shadow.close()
    count = service.meters.registry.get_sample_value
    dropped, scored = (count("recdistill_shadow_requests_total", {"state": state}) for state in ("dropped", "scored"))
    assert dropped in (9, 10) and scored == WAITING + 10 - dropped


def test_what_it_does_not_read_is_refused_and_it_goes_on(root: Path) -> None:
    good = Request(1, ITEMS, 1e9, history=Past())
    bad = Request(1, ITEMS, 1e9, {"nope": 1}, history=Past())
    with opened(root, Limits(), Extras(shadow="2")) as app:
        (shadow, _), scores = app.state.service.observers, app.state.service.live.scorer.rank(good)
        for request in (bad, good):
            shadow(Served(request, 1, "teacher", scores, 1e9, "r"))
    count = app.state.service.meters.registry.get_sample_value
    assert [count("recdistill_shadow_requests_total", {"state": one}) for one in ("refused", "scored")] == [1, 1]


def test_one_that_is_not_there_is_refused_before_anything_is_served(root: Path) -> None:
    with pytest.raises(UserError, match=r"9: no artefact"):
        opened(root, Limits(), Extras(shadow="9")).__enter__()
    with pytest.raises(UserError, match=r"nowhere: no artefact"):
        opened(root, Limits(), Extras(shadow=str(root / "nowhere"))).__enter__()


def test_items_are_those_of_the_request_log_and_a_time_ahead_holds_up_no_file(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    artefact, scores, now = Live(root).scorer.artefact, np.full((1, 2), 0.2, np.float32), time.time()
    asked_for: list[tuple[Any, float]] = [(7.0, now), ("7", now), (7, now + 2 * 86_400)]
    answers = [Served(Request(3, [item], at), 1, "m", scores, now, f"r{k}") for k, (item, at) in enumerate(asked_for)]
    spool, log = (
        Spool(tmp_path / "spool", "served"),
        PredictionLog.create(tmp_path / "t", tuple(artefact.manifest.tasks)),
    )
    for answer in answers:
        spool.add(record_of(answer, [("served.v1", "m", scores, artefact.manifest)]))
    spool.close()
    take_spool(log, tmp_path / "spool")
    events = pa.concat_tables(events_of(answer, artefact, None) for answer in answers[:2])
    assert set(log.scan().collect()["sample_id"]) == set(events["sample_id"].to_pylist()) and len(events) == 2
    assert "1 left out, whose time lies in the future" in capsys.readouterr().out
    assert not list((tmp_path / "spool").iterdir())


def test_its_predictions_become_those_of_a_model_and_are_compared(root: Path) -> None:
    run = root.parent / "run"
    code, printed = typed("shadow", run, root)
    assert code == 2 and "nothing there; serve with --shadow first" in printed
    with opened(root, Limits(), Extras(shadow="2")) as app:
        asked(app, range(30))
        code, printed = typed("shadow", run, root)
        assert code == 2 and ("still being written" in printed or "nothing there" in printed)
    code, printed = typed("shadow", run, root)
    assert code == 0 and "shadow.v2: 120 predictions" in printed and "none of them has a label of click yet" in printed
    happened(run, range(30), ITEMS, lambda user, item: item % 2)
    write_summary(withheld_summary(), run / "summary.json")
    code, printed = typed("shadow", run, root)
    assert code == 0 and printed.count(" 120 ") == 4 and "served.v1" in printed
    found, further = load(run / "summary.json").shadows
    assert (found.task, further.task) == ("click", "finish")
    assert (found.shadow, found.served, found.rows) == ("shadow.v2", "served.v1", 120)
    assert found.models["shadow"].seeds == [0] and found.models["shadow"].settings == {"exported": "light.raw.s0"}
    assert found.models["served"].settings == {"exported": "teacher"}
    assert "shadow.v2" in (run / "report.html").read_text()
    rows = PredictionLog.open(run / "predictions").scan().filter(pl.col("model") == "shadow.v2").collect()
    assert len(rows) == 120 and set(rows["kind"]) == {"prequential"} and set(rows["version"]) == {2}
    with opened(root, Limits(), Extras(shadow="2")) as app:
        asked(app, range(25, 32))  # some of them again
    code, printed = typed("shadow", run, root)
    rows = PredictionLog.open(run / "predictions").scan().filter(pl.col("model") == "shadow.v2").collect()
    assert (
        len(rows) == 128
        and "shadow.v2: 8 predictions" in printed
        and "20 left out, which it had predicted already" in printed
    )

"""The server's answers: scores, refusals that name a field, limits, versions that change under it."""

from __future__ import annotations

import asyncio
import json
import queue
import re
import shutil
import threading
from collections.abc import Iterator, MutableMapping
from functools import reduce
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from starlette.testclient import TestClient

from recdistill.data.store.memmap import write_json
from recdistill.serve.app import make_app
from recdistill.serve.bodies import RankBody
from recdistill.serve.limits import Limits
from recdistill.serve.live import Live
from recdistill.serve.pointer import POINTER
from recdistill.serve.request import Request
from recdistill.serve.scorer import Scorer
from recdistill.serve.service import Service
from tests.support.artefacts import two_versions, version_of

BODY = {"user": 3, "items": [1, 2, 3], "time": 1e9}


@pytest.fixture(scope="module")
def versions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of two versions, of different weights, whose pointer names the first."""
    return two_versions(tmp_path_factory.mktemp("server"))


@pytest.fixture
def live(versions: Path) -> Live:
    write_json(versions / POINTER, {"version": 1, "before": []})
    return Live(versions)


@pytest.fixture
def client(live: Live) -> Iterator[TestClient]:
    with TestClient(make_app(Service(live, Limits(body=4096, history=3)))) as made:
        yield made


def test_a_request_is_answered_with_a_score_per_candidate_and_the_version(client: TestClient, versions: Path) -> None:
    answer = client.post("/v1/rank", json=BODY)
    wanted = Scorer.open(versions / "1").rank(Request(3, [1, 2, 3], 1e9))
    tasks = Scorer.open(versions / "1").artefact.manifest.tasks
    scores = {task: wanted[:, k].tolist() for k, task in enumerate(tasks)}
    assert answer.status_code == 200 and answer.json() == {
        "model": "teacher",
        "version": 1,
        "history": "none",
        "scores": scores,
    }


def test_it_says_how_it_is(client: TestClient) -> None:
    client.post("/v1/rank", json=BODY)
    assert client.get("/healthz").json() == {"status": "ok"}
    assert client.get("/readyz").json() == {"status": "ready", "model": "teacher", "version": 1}
    assert 'recdistill_rank_total{status="200"} 1.0' in client.get("/metrics").text
    assert "/v1/rank" in client.get("/openapi.json").json()["paths"]
    page = client.get("/docs")
    assert page.headers["content-type"] == "text/html; charset=utf-8" and "POST /v1/rank" in page.text


def test_openapi_holds_all_that_it_refers_to(client: TestClient) -> None:
    whole = client.get("/openapi.json").json()
    for reference in re.findall(r'"\$ref": "#/([^"]+)"', json.dumps(whole)):
        assert reduce(lambda tree, key: tree[key], reference.split("/"), whole)
    body = whole["paths"]["/v1/rank"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert "times" in json.dumps(body["properties"]["history"])


def test_every_refusal_stands_on_the_openapi_page(client: TestClient) -> None:
    paths = client.get("/openapi.json").json()["paths"]
    for path, about in paths.items():
        for method, route in about.items():
            named = path.replace("{name}", "nope").replace("{version}", "9")
            for headers in (
                {},
                {"content-type": "text/plain", "content-encoding": "gzip"},
                {"content-length": "9" * 9},
            ):
                answer = client.request(method, named, content=b"{", headers=headers)
                found = route["responses"][str(answer.status_code)]
                kind = answer.headers["content-type"].partition(";")[0]
                assert kind in found["content"], (path, answer.status_code)
                if answer.status_code >= 400:
                    assert found["content"][kind]["schema"] == {"$ref": "#/components/schemas/Refusal"}
    assert {"400", "401", "408", "413", "415", "422", "429", "503"} < paths["/v1/rank"]["post"]["responses"].keys()


@pytest.mark.parametrize(
    ("body", "status", "line"),
    [
        ("{", 422, "body: Invalid JSON"),
        ("[" * 3000, 422, "body: Invalid JSON"),
        ("[]", 422, "body: "),
        (json.dumps({"items": []}), 422, "items: "),
        (json.dumps({"user": 1}), 422, "items: Field required"),
        (json.dumps({**BODY, "nope": 1}), 422, "nope: "),
        (json.dumps({**BODY, "items": [True]}), 422, "items.0: "),
        (json.dumps({**BODY, "features": {"nope": 1}}), 422, "features: there is no feature 'nope'"),
        (json.dumps({**BODY, "time": "now"}), 422, "time: "),
        ('{"items": [1], "time": NaN}', 422, "time: seconds since 1970"),
        (json.dumps({**BODY, "time": 10**400}), 422, "time: seconds since 1970"),
        (
            json.dumps({**BODY, "history": {"items": [1], "times": [10**400], "actions": ["positive"]}}),
            422,
            "history.times",
        ),
        (json.dumps({**BODY, "n" * 3000: 1}), 422, f"{'n' * 40}: Extra inputs"),
        (
            json.dumps({**BODY, "features": {"n" * 3000: 1}}),
            422,
            f"features: there is no feature '{'n' * 39}...; known",
        ),
        (json.dumps({**BODY, "features": {"interest": True}}), 422, "features.interest: "),
        ('{"items": ["\\ud800"]}', 422, "body: Invalid JSON"),
        (json.dumps({**BODY, "history": {"items": [1] * 4, "times": [1] * 4}}), 422, "history.items: at most 3 events"),
        (json.dumps({**BODY, "items": [1] * 4000}), 413, "body: at most 4,096 bytes"),
    ],
)
def test_what_cannot_be_read_is_refused_by_its_field(client: TestClient, body: str, status: int, line: str) -> None:
    answer = client.post("/v1/rank", content=body, headers={"content-type": "application/json"})
    assert (answer.status_code, answer.json()["error"][: len(line)]) == (status, line)


def test_an_endless_list_of_wrong_entries_is_refused_at_its_first() -> None:
    """An error for each would take seconds, and a gigabyte."""
    body = {**BODY, "item_features": {"topic": [True] * 10}, "history": {"items": [True] * 10}}
    with pytest.raises(ValidationError) as found:
        RankBody.model_validate(body)
    assert {one["loc"][:3] for one in found.value.errors()} == {("item_features", "topic", 0), ("history", "items", 0)}


def test_an_object_of_very_many_keys_is_refused(live: Live) -> None:
    with TestClient(make_app(Service(live, Limits()))) as client:
        answer = client.post("/v1/rank", json={**BODY, "features": {f"a{n}": True for n in range(1001)}})
    assert answer.status_code == 422 and answer.json() == {"error": "features: at most 1,000 keys; got 1,001"}


def test_a_connection_that_ends_within_a_body_is_no_error_of_ours(live: Live) -> None:
    sent: list[MutableMapping[str, Any]] = []
    parts: Iterator[dict[str, Any]] = iter(
        [{"type": "http.request", "body": b"{", "more_body": True}, {"type": "http.disconnect"}]
    )

    async def receive() -> dict[str, Any]:
        return next(parts)

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/v1/rank", "query_string": b"", "headers": []}
    asyncio.run(make_app(Service(live, Limits()))(scope, receive, send))
    assert sent[0]["status"] == 400


def test_another_content_type_and_another_method_are_refused(client: TestClient) -> None:
    assert client.post("/v1/rank", content=b"x", headers={"content-type": "text/plain"}).status_code == 415
    assert client.get("/v1/rank").status_code == 405


def test_a_token_is_asked_for_where_one_is_set(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECDISTILL_TOKEN", "open sesame")
    with TestClient(make_app(Service(live, Limits()))) as client:
        assert client.post("/v1/rank", json=BODY).status_code == 401
        right = {"authorization": "Bearer open sesame"}
        assert client.post("/v1/rank", json=BODY, headers=right).status_code == 200


def test_no_more_requests_wait_than_may(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    """One is scored, one waits, and the third is told to come back."""
    begun, go, rank = threading.Semaphore(0), threading.Event(), Scorer.scores

    def slow(scorer: Scorer, requests: list[Any]) -> object:
        begun.release()
        go.wait()
        return rank(scorer, requests)

    monkeypatch.setattr(Scorer, "scores", slow)
    found: queue.Queue[int] = queue.Queue()
    with TestClient(make_app(Service(live, Limits(threads=1, waiting=1, seconds=600)))) as client:

        def ask() -> None:
            answer = client.post("/v1/rank", json=BODY)
            found.put(answer.status_code if answer.headers.get("retry-after") != "1" else -answer.status_code)

        asking = [threading.Thread(target=ask) for _ in range(3)]
        asking[0].start()
        begun.acquire()
        asking[1].start()
        asking[2].start()
        assert found.get() == -429
        go.set()
        for one in asking:
            one.join()
    assert [found.get(), found.get()] == [200, 200]


def loaded(live: Live) -> None:
    """Wait until a version that is being loaded is taken or refused."""
    live.of(Request(3, [1], 1e9))
    with live._loading:
        pass


def test_a_new_version_is_taken_over_and_each_answer_is_of_one(live: Live, client: TestClient, versions: Path) -> None:
    wanted = {n: Scorer.open(versions / str(n)).rank(Request(3, [1, 2, 3], 1e9))[:, 0].tolist() for n in (1, 2)}
    assert wanted[1] != wanted[2]
    seen = set()
    for number in range(40):
        write_json(versions / POINTER, {"version": 1 + number % 2, "before": []})
        for _ in range(3):
            answer = client.post("/v1/rank", json=BODY).json()
            assert answer["scores"]["click"] == wanted[answer["version"]]
            seen.add(answer["version"])
        loaded(live)
    assert seen == {1, 2}


def test_a_damaged_version_is_refused_and_the_old_one_goes_on(
    live: Live, client: TestClient, versions: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = versions / "2" / "dense.onnx"
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    try:
        write_json(versions / POINTER, {"version": 2, "before": [1]})
        loaded(live)
        assert client.post("/v1/rank", json=BODY).json()["version"] == 1
        assert "dense.onnx: damaged" in capfd.readouterr().err and live.refused == 1
    finally:
        path.write_bytes(whole)


def test_another_version_of_the_same_number_is_taken_over(live: Live, versions: Path, tmp_path: Path) -> None:
    """A folder that was removed and exported into again begins with 1."""
    root = tmp_path / "again"
    shutil.copytree(versions / "1", root / "1")
    write_json(root / POINTER, {"version": 1, "before": []})
    live = Live(root)
    shutil.rmtree(root / "1")
    version_of(versions / "2", root, 1)
    write_json(root / POINTER, {"version": 1, "before": []})
    loaded(live)
    assert live.scorer.artefact.manifest.model == "light.raw.s0"


def test_whatever_is_wrong_with_a_version_the_old_one_goes_on(
    live: Live, versions: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (versions / POINTER).write_text("[" * 100_000)
    loaded(live)
    assert live.refused == 1 and "current.json: damaged" in capfd.readouterr().err

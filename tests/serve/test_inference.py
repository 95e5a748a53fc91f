"""The Open Inference Protocol: Triton's own client is answered, and gets what `POST /v1/rank` gives."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

from recdistill.serve.app import make_app
from recdistill.serve.limits import Limits
from recdistill.serve.live import Live
from recdistill.serve.request import Past, Request
from recdistill.serve.scorer import Scorer
from recdistill.serve.service import Service
from recdistill.serve.tensors import HEADER
from tests.support.programs import needs
from tests.support.serving import serving

INFER = "/v2/models/teacher/infer"
ITEMS = {"name": "items", "shape": [3], "datatype": "INT64", "data": [1, 2, 3]}
FEATURES = {"topic": [1, 4, 2], "age_days": [0.5, 3.0, 12.0]}
PAST = Past([7, 9], [1e8, 2e8], ["positive", "negative"])
ASKED = Request(3, [1, 2, 3], 1e9, {"device": 1}, FEATURES, PAST)
INPUTS = {
    "user": np.array([3]),
    "items": np.array([1, 2, 3]),
    "time": np.array([1e9]),
    "features.device": np.array([1]),
    "features.topic": np.array(FEATURES["topic"]),
    "features.age_days": np.array(FEATURES["age_days"], np.float32),
    "history.items": np.array(PAST.items),
    "history.times": np.array(PAST.times),
    "history.actions": np.array(PAST.actions, object),
}


@pytest.fixture(scope="module")
def client(artefact: Path) -> Iterator[TestClient]:
    with TestClient(make_app(Service(Live(artefact), Limits()))) as made:
        yield made


@pytest.fixture(scope="module")
def triton(artefact: Path) -> Iterator[Any]:
    import tritonclient.http as http

    with serving(artefact) as served:
        client = http.InferenceServerClient(f"127.0.0.1:{served.port}")
        yield client
        client.close()


def inputs_of(binary: bool) -> list[Any]:
    import tritonclient.http as http
    from tritonclient.utils import np_to_triton_dtype

    found = []
    for name, values in INPUTS.items():
        one = http.InferInput(name, list(values.shape), np_to_triton_dtype(values.dtype))
        found.append(one.set_data_from_numpy(values, binary_data=binary))
    return found


@needs("tritonclient")
@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize("version", ["", "1"])
def test_tritons_client_gets_the_scores(triton: Any, artefact: Path, binary: bool, version: str) -> None:
    import tritonclient.http as http

    scorer = Scorer.open(artefact)
    outputs = [http.InferRequestedOutput(task, binary_data=binary) for task in scorer.artefact.manifest.tasks]
    asked = inputs_of(binary)
    named = triton.infer("teacher", asked, model_version=version, outputs=outputs, request_id="seven")
    every = triton.infer("teacher", asked, model_version=version)
    for k, task in enumerate(scorer.artefact.manifest.tasks):
        assert np.array_equal(named.as_numpy(task), scorer.rank(ASKED)[:, k])
        assert np.array_equal(every.as_numpy(task), scorer.rank(ASKED)[:, k])
    about = named.get_response()
    assert (about["model_name"], about["model_version"], about["id"]) == ("teacher", "1", "seven")


@needs("tritonclient")
def test_tritons_client_finds_the_server_and_the_model(triton: Any) -> None:
    assert triton.is_server_live() and triton.is_server_ready()
    assert triton.get_server_metadata()["extensions"] == ["binary_tensor_data"]
    assert triton.is_model_ready("teacher") and triton.is_model_ready("teacher", "1")
    assert not triton.is_model_ready("teacher", "2") and not triton.is_model_ready("nope")
    about = triton.get_model_metadata("teacher")
    kinds = {one["name"]: (one["datatype"], one["shape"]) for one in about["inputs"]}
    assert about["versions"] == ["1"] and set(INPUTS) <= set(kinds)
    assert kinds["items"] == ("INT64", [-1]) and kinds["features.age_days"] == ("FP32", [-1])
    assert about["outputs"][0] == {"name": "click", "datatype": "FP32", "shape": [-1]}


@needs("tritonclient")
def test_tritons_client_gets_a_refusal_by_its_field(triton: Any) -> None:
    import tritonclient.http as http
    from tritonclient.utils import InferenceServerException

    wrong = http.InferInput("itmes", [1], "INT64")
    wrong.set_data_from_numpy(np.array([1]))
    with pytest.raises(InferenceServerException, match="there is no 'itmes'; did you mean 'items'"):
        triton.infer("teacher", [*inputs_of(True), wrong])


@pytest.mark.parametrize(
    ("inputs", "line"),
    [
        ([], "inputs: List should have at least 1 item"),
        ([{**ITEMS, "shape": [1, 3]}], "inputs.items: a shape of one dimension was expected; got [1, 3]"),
        ([{**ITEMS, "name": "user"}], "inputs.items: it is missing"),
        ([ITEMS, {**ITEMS, "name": "user"}], "inputs.user: a shape [1] was expected; got [3]"),
        ([ITEMS, {**ITEMS, "name": "nope"}], "inputs: there is no 'nope'"),
        ([ITEMS, {**ITEMS, "name": "features.nope"}], "item_features: there is no feature 'nope'"),
        (
            [ITEMS, {**ITEMS, "name": "features.topic", "shape": [2], "data": [1, 2]}],
            "inputs.features.topic: 1 or 3 values were expected; got 2",
        ),
        (
            [ITEMS, {**ITEMS, "name": "features.topic", "shape": [10**9, 0], "data": []}],
            "inputs.features.topic: 1 or 3 values were expected; got 1,000,000,000",
        ),
        (
            [{**ITEMS, "datatype": "BYTES", "data": ["a", "b", "c"]}],
            "items: a whole number was expected; got 'a'",
        ),
        ([{**ITEMS, "shape": [0], "data": []}], "items: give 1 to"),
    ],
)
def test_inputs_that_cannot_be_read_are_refused(client: TestClient, inputs: list[Any], line: str) -> None:
    answer = client.post(INFER, json={"inputs": inputs})
    assert (answer.status_code, answer.json()["error"][: len(line)]) == (422, line)


def test_an_unknown_output_model_or_version_is_refused(client: TestClient) -> None:
    asked = {"inputs": [ITEMS]}
    assert client.post(INFER, json={**asked, "outputs": [{"name": "nope"}]}).status_code == 422
    assert client.post(INFER.replace("teacher", "nope"), json=asked).json() == {"error": "model: teacher is served"}
    other = client.post("/v2/models/teacher/versions/2/infer", json=asked)
    assert (other.status_code, other.json()) == (404, {"error": "version: 1 of teacher is served"})


def test_a_header_that_is_longer_than_the_body_is_refused(client: TestClient) -> None:
    answer = client.post(INFER, content=b"{}", headers={HEADER: "3"})
    assert answer.status_code == 422 and answer.json()["error"].startswith(f"{HEADER}: ")


def test_no_time_is_now_and_no_history_is_none(client: TestClient) -> None:
    given = {"inputs": [ITEMS, {"name": "time", "shape": [1], "datatype": "INT64", "data": [10**9]}]}
    found = client.post(INFER, json=given).json()["outputs"][0]["data"]
    wanted = client.post("/v1/rank", content=json.dumps({"items": [1, 2, 3], "time": 10**9})).json()
    assert found == wanted["scores"]["click"]
    assert client.post(INFER, json={"inputs": [ITEMS]}).status_code == 200


def test_a_token_is_asked_of_the_protocol_too(artefact: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECDISTILL_TOKEN", "open sesame")
    with TestClient(make_app(Service(Live(artefact), Limits()))) as client:
        assert client.post(INFER, json={"inputs": [ITEMS]}).status_code == 401

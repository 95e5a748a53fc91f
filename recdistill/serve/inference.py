"""The Open Inference Protocol, version 2, over REST: what the clients of KServe and Triton speak.

A request's tensors are named as the keys of `POST /v1/rank`: `user` [1], `items` [C], `time` [1], `history.items`,
`history.times`, `history.actions` [E], and `features.NAME` [1], or [C] for a value per candidate; of a list [1, M] or
[C, M]. The answer has one FP32 tensor [C] per task.
"""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, Request, Response
from pydantic_core import to_json

from recdistill import __version__
from recdistill.errors import did_you_mean
from recdistill.serve import request as ranking
from recdistill.serve.bodies import PastBody, RankBody, described, request_of, tree_of
from recdistill.serve.exchange import Asked, Exchange
from recdistill.serve.limits import Limits
from recdistill.serve.refusal import OF_BODIES, RefusedError, refusals
from recdistill.serve.scorer import Scorer
from recdistill.serve.tensors import HEADER, InferBody, Tensor, split, tensors, with_binary
from recdistill.serve.waiting import Answered

__all__ = ["add_inference"]

BINARY = "application/octet-stream"
MODEL = "/v2/models/{name}"
FEATURE, PAST = "features.", "history."
ONE = ("user", "time")
IDS = {"int64": "INT64", "string": "BYTES", "float32": "FP32"}


def add_inference(app: FastAPI, exchange: Exchange) -> None:
    """Add the protocol's routes."""
    live = exchange.service.live

    @app.get("/v2")
    async def server() -> dict[str, Any]:
        """Name the server and the extensions that it knows."""
        return {"name": "recdistill", "version": __version__, "extensions": ["binary_tensor_data"]}

    @app.get("/v2/health/live")
    async def alive() -> dict[str, bool]:
        """Say that the process lives."""
        return {"live": True}

    @app.get("/v2/health/ready")
    async def ready() -> dict[str, bool]:
        """Say that a model is served."""
        return {"ready": True}

    known, infers = refusals(404, 422), refusals(404, *OF_BODIES)

    @app.get(MODEL, responses=known)
    @app.get(MODEL + "/versions/{version}", responses=known)
    async def model(name: str, version: str = "") -> Response:
        """Name the model's inputs and outputs: tensors, their types and shapes."""
        return _of_model(live.scorer, name, version, _metadata(live.scorer))

    @app.get(MODEL + "/ready", responses=known)
    @app.get(MODEL + "/versions/{version}/ready", responses=known)
    async def model_ready(name: str, version: str = "") -> Response:
        """Say that this model is served."""
        return _of_model(live.scorer, name, version, {"name": name, "ready": True})

    @app.post(MODEL + "/infer", openapi_extra=described(InferBody, BINARY), responses=infers)
    @app.post(MODEL + "/versions/{version}/infer", openapi_extra=described(InferBody, BINARY), responses=infers)
    async def infer(request: Request, name: str, version: str = "") -> Response:
        """Rank the candidates of one user; tensors are JSON, or binary after it."""

        def read(body: bytes) -> Asked:
            _same_model(live.scorer, name, version)
            return _asked(body, request.headers.get(HEADER), live.scorer, version, exchange.service.limits)

        return await exchange.answer(request, read)


def _same_model(scorer: Scorer, name: str, version: str) -> None:
    about = scorer.artefact.manifest
    if name != about.model:
        raise RefusedError(404, f"model: {about.model} is served")
    if version not in ("", str(about.version)):
        raise RefusedError(404, f"version: {about.version} of {about.model} is served")


def _of_model(scorer: Scorer, name: str, version: str, tree: dict[str, Any]) -> Response:
    try:
        _same_model(scorer, name, version)
    except RefusedError as error:
        return error.answer()
    return Response(to_json(tree), media_type="application/json")


def _metadata(scorer: Scorer) -> dict[str, Any]:
    about, schema = scorer.artefact.manifest, scorer.artefact.schema
    inputs = [("user", IDS[schema.user_id], [1]), ("items", IDS[schema.item_id], [-1]), ("time", "FP64", [1])]
    inputs += [("history.items", IDS[schema.item_id], [-1]), ("history.times", "FP64", [-1])]
    inputs += [("history.actions", "BYTES", [-1])]
    for name, kind in schema.features.items():
        inner, shape = kind.removeprefix("list<").removesuffix(">"), [-1, -1] if kind.startswith("list") else [-1]
        inputs.append((FEATURE + name, IDS[inner], shape))
    return {
        "name": about.model,
        "versions": [str(about.version)],
        "platform": "onnxruntime_onnx",
        "inputs": [dict(zip(("name", "datatype", "shape"), one, strict=True)) for one in inputs],
        "outputs": [{"name": task, "datatype": "FP32", "shape": [-1]} for task in about.tasks],
    }


def _asked(body: bytes, length: str | None, scorer: Scorer, version: str, limits: Limits) -> Asked:
    """Return what a body asks for, of the version that is named, if one is."""
    head, binary = split(body, length)
    read = tree_of(head, InferBody)
    tasks = scorer.artefact.manifest.tasks
    for output in read.outputs:
        if output.name not in tasks:
            short = output.name[: ranking.SHOWN]
            raise RefusedError(422, f"outputs: one of {', '.join(tasks)} was expected; got {short!r}")
    request = request_of(_rank_body(tensors(read.inputs, binary)), limits)

    def write(found: Answered) -> Response:
        _same_model(found.scorer, found.scorer.artefact.manifest.model, version)  # another may be served by now
        return _written(read, found)

    return Asked(request, write)


def _rank_body(found: dict[str, Tensor]) -> RankBody:
    """Return the tensors by their names as keys of `RankBody`, which are checked where they are read."""
    keys = {name: tensor for name, tensor in found.items() if not name.startswith(FEATURE)}
    if "items" not in keys:
        raise RefusedError(422, "inputs.items: it is missing")
    known = ("user", "items", "time", *(PAST + name for name in PastBody.model_fields))
    for name, tensor in keys.items():
        short = name[: ranking.SHOWN]
        if name not in known:
            raise RefusedError(422, f"inputs: there is no {short!r}{did_you_mean(short, known)}")
        if len(tensor.shape) != 1 or (name in ONE and tensor.shape != [1]):
            wanted = "[1]" if name in ONE else "of one dimension"
            raise RefusedError(422, f"inputs.{name}: a shape {wanted} was expected; got {tensor.shape}")
    n = len(keys["items"].values)
    past = {name: keys[PAST + name].values for name in PastBody.model_fields if PAST + name in keys}
    features, item_features = _features(found, n)
    return RankBody.model_construct(
        user=keys["user"].first() if "user" in keys else None,
        items=keys["items"].values,
        time=keys["time"].first() if "time" in keys else None,
        features=features,
        item_features=item_features,
        history=PastBody.model_construct(**past) if past else None,  # type: ignore[arg-type]
    )


def _features(found: dict[str, Tensor], n: int) -> tuple[dict[str, Any], dict[str, ranking.Column]]:
    """Return the features of all candidates, and those with a value for each."""
    of_all: dict[str, Any] = {}
    of_each: dict[str, ranking.Column] = {}
    for full, tensor in found.items():
        name = full.removeprefix(FEATURE)
        if name == full:
            continue
        if tensor.shape[0] not in (1, n):
            what = f"inputs.{full[: ranking.SHOWN]}"
            raise RefusedError(422, f"{what}: 1 or {n:,} values were expected; got {tensor.shape[0]:,}")
        rows = tensor.rows() if len(tensor.shape) == 2 else None
        if tensor.shape[0] == 1:
            of_all[name] = tensor.first() if rows is None else rows[0]
        else:
            of_each[name] = tensor.values if rows is None else rows
    return of_all, of_each


def _written(read: InferBody, found: Answered) -> Response:
    """Return the outputs that were asked for, all where none was named; as bytes where that was asked for."""
    about, default = found.scorer.artefact.manifest, read.parameters.binary_data_output
    wanted = [(one.name, one.parameters.binary_data) for one in read.outputs] or [(task, None) for task in about.tasks]
    chosen = [
        (name, found.scores[:, about.tasks.index(name)], default if binary is None else binary)
        for name, binary in wanted
    ]
    outputs, tail = with_binary(chosen)
    tree = {"model_name": about.model, "model_version": str(about.version), "id": read.id, "outputs": outputs}
    head = to_json(tree)
    if not tail:
        return Response(head, media_type="application/json")
    return Response(head + tail, media_type=BINARY, headers={HEADER: str(len(head))})

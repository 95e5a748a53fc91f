"""The server: POST /v1/rank, /healthz, /readyz, /metrics, /openapi.json; on loopback by default.

A request is one user and many candidates. Bodies, candidates and histories are bounded, so are requests that wait; what
is refused names the field, and shows no path and no trace.
"""

from __future__ import annotations

import asyncio
import hmac
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import anyio
import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from pydantic import BaseModel, ConfigDict, FailFast, Field, StrictFloat, StrictInt, StrictStr, ValidationError
from pydantic_core import from_json
from starlette.requests import ClientDisconnect

from recdistill import __version__
from recdistill.errors import UserError
from recdistill.serve import request as ranking
from recdistill.serve.live import Live
from recdistill.typing import Array
from recdistill.web import Announced, listening

__all__ = ["Limits", "make_app", "serve"]

TOKEN = "RECDISTILL_TOKEN"  # in the environment: asked of every request under /v1
CONNECTIONS = 1024
MOST_KEYS = 1000  # of an object in a body


class _First(FailFast):
    """A list is read up to its first wrong entry: an error for each of a million would take seconds, and a gigabyte."""

    __hash__ = object.__hash__  # a part of a union is hashed


Id = StrictInt | StrictStr | StrictFloat
Entries = Annotated[list[StrictInt | StrictStr | None], _First()]
Value = StrictInt | StrictStr | StrictFloat | Entries | None


class Limits(BaseModel):
    """body: bytes; history: events; waiting: requests that wait for a thread; threads: requests scored at a time;
    seconds: for a body to arrive, and for an answer.
    """

    body: int = 4 << 20
    history: int = 20_000
    waiting: int = 64
    threads: int = 2
    seconds: float = 5.0


class PastBody(BaseModel):
    """The user's events: items, times in seconds since 1970, and, where the log had several, the kind of action."""

    model_config = ConfigDict(extra="forbid")
    items: Annotated[list[Id], _First()] = []
    times: Annotated[list[StrictInt | StrictFloat], _First()] = []
    actions: Annotated[list[StrictStr], _First()] = []


class RankBody(BaseModel):
    """One user, many candidates."""

    model_config = ConfigDict(extra="forbid")
    user: Id | None = None
    items: Annotated[list[Id], _First(), Field(min_length=1, max_length=ranking.MOST_CANDIDATES)]
    time: Annotated[StrictInt | StrictFloat | None, Field(description="Seconds since 1970; default: now.")] = None
    features: Annotated[dict[str, Value], Field(description="Of the user and the moment.")] = {}
    item_features: Annotated[
        dict[str, Annotated[list[Value], _First()]], Field(description="Name -> a value per candidate.")
    ] = {}
    history: PastBody = PastBody()


class RankAnswer(BaseModel):
    """Per task a probability for each candidate, in the order of the request; version: the one that gave them all."""

    model: str
    version: int
    scores: dict[str, list[float]]


class RefusedError(Exception):
    """A request that is answered with a status and one line."""

    def __init__(self, status: int, line: str, wait: bool = False) -> None:
        super().__init__(line)
        self.status, self.wait = status, wait

    def answer(self) -> JSONResponse:
        """Return the answer."""
        return JSONResponse({"error": str(self)}, self.status, headers={"Retry-After": "1"} if self.wait else None)


class _Meters:
    """What /metrics shows."""

    def __init__(self, live: Live) -> None:
        self.registry = CollectorRegistry()
        self.answers = Counter("recdistill_rank", "Requests answered, by status.", ["status"], registry=self.registry)
        self.candidates = Counter("recdistill_candidates", "Candidates scored.", registry=self.registry)
        buckets = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1, 5)
        self.seconds = Histogram(
            "recdistill_rank_seconds", "From body to answer.", buckets=buckets, registry=self.registry
        )
        for name, text, value in (
            ("recdistill_version", "The version that is served.", lambda: live.scorer.version),
            ("recdistill_refused_versions", "Versions that were damaged, and not taken.", lambda: live.refused),
        ):
            Gauge(name, text, registry=self.registry).set_function(value)


def make_app(live: Live, limits: Limits) -> FastAPI:
    """Return the application."""
    app = FastAPI(title="recdistill", version=__version__, docs_url=None, redoc_url=None)
    meters, slots = _Meters(live), anyio.CapacityLimiter(limits.threads)
    token = os.environ.get(TOKEN, "")

    async def answered(request: Request) -> Response:
        _allowed(request, token)
        began = time.perf_counter()
        asked = _asked(await _body(request, limits), limits)
        if slots.statistics().tasks_waiting >= limits.waiting:
            raise RefusedError(429, "too many requests wait; try again", wait=True)
        scorer = live.of(asked)
        try:
            with anyio.fail_after(limits.seconds):
                scores = await anyio.to_thread.run_sync(scorer.rank, asked, limiter=slots, abandon_on_cancel=True)
        except TimeoutError:
            raise RefusedError(503, f"no answer within {limits.seconds:g} s; try again", wait=True) from None
        except UserError as error:
            raise RefusedError(422, str(error)) from None
        meters.candidates.inc(len(asked.items))
        meters.seconds.observe(time.perf_counter() - began)
        return JSONResponse(_answer(scorer, scores))

    @app.post("/v1/rank", response_model=RankAnswer, openapi_extra=_described(RankBody))
    async def rank(request: Request) -> Response:
        try:
            answer = await answered(request)
        except RefusedError as error:
            answer = error.answer()
        meters.answers.labels(str(answer.status_code)).inc()
        return answer

    @app.get("/healthz")
    async def healthz() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/readyz")
    async def readyz() -> dict[str, Any]:
        return {"status": "ready", "model": live.scorer.artefact.manifest.model, "version": live.scorer.version}

    @app.get("/metrics")
    async def metrics() -> Response:
        return Response(generate_latest(meters.registry), media_type=CONTENT_TYPE_LATEST)

    return app


def _described(body: type[BaseModel]) -> dict[str, Any]:
    """Return what OpenAPI says of a body that the route reads itself."""
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": body.model_json_schema()}}}}


def _allowed(request: Request, token: str) -> None:
    given = request.headers.get("authorization", "").removeprefix("Bearer ")
    if token and not hmac.compare_digest(given.encode(), token.encode()):
        raise RefusedError(401, "give the token: Authorization: Bearer ...")


async def _body(request: Request, limits: Limits) -> bytes:
    """Return a body of JSON that arrives in time and is not too long."""
    kind = request.headers.get("content-type", "application/json").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise RefusedError(415, "content-type: application/json was expected")
    length = request.headers.get("content-length", "0")
    if length.isdecimal() and int(length) > limits.body:
        raise RefusedError(413, f"body: at most {limits.body:,} bytes")
    parts = bytearray()
    try:
        async with asyncio.timeout(limits.seconds):
            async for part in request.stream():
                parts += part
                if len(parts) > limits.body:
                    raise RefusedError(413, f"body: at most {limits.body:,} bytes")
    except TimeoutError:
        raise RefusedError(408, f"body: it did not arrive within {limits.seconds:g} s") from None
    except ClientDisconnect:
        raise RefusedError(400, "body: the connection ended before it was whole") from None
    return bytes(parts)


def _asked(body: bytes, limits: Limits) -> ranking.Request:
    try:
        tree = from_json(body)
    except ValueError as error:
        raise RefusedError(422, f"body: Invalid JSON: {error}"[:200]) from None
    _few_keys(tree, "body")
    try:
        read = RankBody.model_validate(tree)
    except ValidationError as error:
        raise RefusedError(422, _first(error)) from None
    if len(read.history.items) > limits.history:
        raise RefusedError(422, f"history.items: at most {limits.history:,} events; got {len(read.history.items):,}")
    past = ranking.Past(read.history.items, read.history.times, read.history.actions)
    moment = time.time() if read.time is None else read.time
    return ranking.Request(read.user, read.items, moment, read.features, read.item_features, past)


def _few_keys(tree: Any, where: str) -> None:
    """Refuse an object, or one right in it, of more than MOST_KEYS keys: each wrong one makes errors of its own."""
    if not isinstance(tree, dict):
        return
    if len(tree) > MOST_KEYS:
        raise RefusedError(422, f"{where}: at most {MOST_KEYS:,} keys; got {len(tree):,}")
    for name, inner in tree.items():
        if isinstance(inner, dict) and len(inner) > MOST_KEYS:
            raise RefusedError(422, f"{name[: ranking.SHOWN]}: at most {MOST_KEYS:,} keys; got {len(inner):,}")


def _first(error: ValidationError) -> str:
    """Return the first thing that is wrong, without the value that was given."""
    one = error.errors(include_url=False, include_input=False, include_context=False)[0]
    parts = [str(part)[: ranking.SHOWN] for part in one["loc"]]
    where = ".".join(part for part in parts if part not in ("int", "str", "float") and not part.startswith("list["))
    return f"{where or 'body'}: {one['msg'][:200]}"


def _answer(scorer: Any, scores: Array) -> dict[str, Any]:
    about = scorer.artefact.manifest
    columns = {task: scores[:, k].tolist() for k, task in enumerate(about.tasks)}
    return {"model": about.model, "version": about.version, "scores": columns}


def serve(root: Path, host: str, port: int, limits: Limits) -> None:
    """Serve until interrupted; `port` 0 takes a free one, and the address is printed. Requests under way are answered
    before it ends.

    Raises UserError for an artefact that cannot be served and a port that cannot be used.
    """
    live = Live(root)
    with listening("serve", host, port) as ours, suppress(KeyboardInterrupt):
        config = uvicorn.Config(
            make_app(live, limits),
            log_level="warning",
            access_log=False,
            server_header=False,
            limit_concurrency=CONNECTIONS,
            timeout_keep_alive=10,
            timeout_graceful_shutdown=int(limits.seconds) + 1,
            h11_max_incomplete_event_size=16_384,
            http="h11",
            ws="none",
            lifespan="off",
        )
        Announced(config, "POST /v1/rank; /healthz, /readyz, /metrics, /openapi.json").run(sockets=[ours])

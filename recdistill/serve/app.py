"""The routes: POST /v1/rank, /healthz, /readyz, /metrics, /openapi.json.

A request is one user and many candidates. Bodies, candidates and histories are bounded, so are requests that wait; what
is refused names the field, and shows no path and no trace.
"""

from __future__ import annotations

import asyncio
import hmac
import os
import time
import uuid
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.requests import ClientDisconnect

from recdistill import __version__
from recdistill.serve.bodies import RankAnswer, RankBody, answer_of, asked, described
from recdistill.serve.limits import TOKEN, Limits
from recdistill.serve.refusal import RefusedError
from recdistill.serve.service import Service

__all__ = ["make_app"]

SHOWN_ID = 128  # characters of a request's id


def make_app(service: Service) -> FastAPI:
    """Return the application; the token is that of the environment."""
    app = FastAPI(title="recdistill", version=__version__, docs_url=None, redoc_url=None)
    meters, live, limits, token = service.meters, service.live, service.limits, os.environ.get(TOKEN, "")

    async def answered(request: Request, number: str) -> Response:
        _allowed(request, token)
        began = time.perf_counter()
        wanted = asked(await _body(request, limits), limits)
        found = await service.answer(wanted, service.deadline(), number)
        meters.seconds.observe(time.perf_counter() - began)
        return JSONResponse(answer_of(found))

    @app.post("/v1/rank", response_model=RankAnswer, openapi_extra=described(RankBody))
    async def rank(request: Request) -> Response:
        number = request.headers.get("x-request-id", "")[:SHOWN_ID] or uuid.uuid4().hex
        try:
            answer = await answered(request, number)
        except RefusedError as error:
            answer = error.answer()
        answer.headers["x-request-id"] = number
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
        meters.follow(live)
        return Response(meters.page(), media_type=CONTENT_TYPE_LATEST)

    return app


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

"""The routes: POST /v1/rank, the Open Inference Protocol's under /v2, /healthz, /readyz, /metrics, /openapi.json, and
/docs, which shows it to people.

A request is one user and many candidates. Bodies, candidates and histories are bounded, so are requests that wait; what
is refused names the field, and shows no path and no trace.
"""

from __future__ import annotations

import os
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import HTMLResponse, PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST

from recdistill import __version__
from recdistill.serve import arrow
from recdistill.serve.bodies import RankAnswer, RankBody, asked, described, written
from recdistill.serve.docs_page import docs_page
from recdistill.serve.exchange import Asked, Exchange
from recdistill.serve.feedback import add_feedback
from recdistill.serve.inference import add_inference
from recdistill.serve.limits import TOKEN, Limits
from recdistill.serve.refusal import OF_BODIES, RefusedError, refusals
from recdistill.serve.service import Service

__all__ = ["make_app"]

JSON = "application/json"


def make_app(service: Service) -> FastAPI:
    """Return the application, its service at `app.state.service`; the token is that of the environment."""
    app = FastAPI(title="recdistill", version=__version__, docs_url=None, redoc_url=None)
    app.state.service = service
    meters, live = service.meters, service.live
    exchange = Exchange(service, os.environ.get(TOKEN, ""))

    @app.post(
        "/v1/rank",
        response_model=RankAnswer,
        openapi_extra=described(RankBody, arrow.KIND),
        responses=refusals(*OF_BODIES),
    )
    async def rank(request: Request) -> Response:
        """Rank the candidates of one user; the body may be a stream of Arrow too."""
        kinds = kind_of(request, "content-type"), kind_of(request, "accept")
        return await exchange.answer(request, lambda body: _read(body, *kinds, service.limits))

    add_inference(app, exchange)
    if service.log is not None:
        add_feedback(app, exchange, service.log)

    @app.get("/healthz")
    async def healthz() -> dict[str, str]:
        """Say that the process lives."""
        return {"status": "ok"}

    @app.get("/readyz")
    async def readyz() -> dict[str, Any]:
        """Say which model and version is served."""
        live.look()  # a server that is asked for nothing else follows the pointer too
        return {"status": "ready", "model": live.scorer.artefact.manifest.model, "version": live.scorer.version}

    @app.get("/metrics", response_class=PlainTextResponse)
    async def metrics() -> Response:
        """Give what Prometheus reads."""
        meters.follow(live)
        return Response(meters.page(), media_type=CONTENT_TYPE_LATEST)

    @app.get("/docs", response_class=HTMLResponse, include_in_schema=False)
    async def docs() -> HTMLResponse:
        return HTMLResponse(docs_page(app.openapi()))

    return app


def kind_of(request: Request, header: str) -> str:
    """Return a media type of a header, without its parameters."""
    return request.headers.get(header, JSON).partition(";")[0].strip().lower()


def _read(body: bytes, kind: str, accept: str, limits: Limits) -> Asked:
    """Return what a body of JSON or Arrow asks for, answered in Arrow where that is accepted."""
    if kind not in (JSON, arrow.KIND):
        raise RefusedError(415, f"content-type: {JSON} or {arrow.KIND} was expected")
    wanted = arrow.asked(body, limits) if kind == arrow.KIND else asked(body, limits)
    return Asked(wanted, arrow.written if accept == arrow.KIND else written)

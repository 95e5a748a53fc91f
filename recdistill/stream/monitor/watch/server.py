"""The page's server: four GET routes, on loopback by default; it loads nothing and shows no path."""

from __future__ import annotations

import base64
import hashlib
import sys
import threading
import time
from contextlib import suppress
from importlib.resources import files

import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.responses import HTMLResponse, PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.types import ASGIApp

from recdistill.config.experiment import Experiment
from recdistill.errors import UserError
from recdistill.runs.folder import RunFolder
from recdistill.stream.monitor.state import State, StateReader
from recdistill.stream.monitor.watch.page import SCRIPT, render
from recdistill.stream.monitor.watch.prometheus import expose
from recdistill.web import Announced, called, listening, own_names

__all__ = ["make_app", "serve"]

FRESH = 1.0  # seconds that one reading of the tables serves all who ask
MISCALLED = "This machine is not called that; use its address, or start recdistill watch with --host NAME.\n"
UNREADABLE = "The run's tables cannot be read at the moment; the terminal of `recdistill watch` says why.\n"


class _Snapshot:
    """The state for all requests: read at most once per FRESH seconds, by one thread at a time."""

    def __init__(self, folder: RunFolder, experiment: Experiment) -> None:
        self.reader, self.lock = StateReader(folder, experiment), threading.Lock()
        self.state: State | None = None
        self.reported = ""

    def get(self) -> State | None:
        """Return the state, None (reported once on the terminal) when the tables cannot be read."""
        with self.lock:
            if self.state is None or time.time() - self.state.wall >= FRESH:
                try:
                    self.state, self.reported = self.reader.read(), ""
                except (UserError, OSError) as error:
                    self.state = None
                    if str(error) != self.reported:
                        self.reported = str(error)
                        print(f"recdistill: {self.reported}", file=sys.stderr, flush=True)
            return self.state


def _policy() -> str:
    digest = base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode()
    return (
        f"default-src 'none'; script-src 'sha256-{digest}'; style-src 'unsafe-inline'; connect-src 'self'; img-src "
        "data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


class _Guard(BaseHTTPMiddleware):
    """Refuses requests for other names and those that bring a body, and sets the headers of every answer."""

    def __init__(self, app: ASGIApp, names: set[str]) -> None:
        super().__init__(app)
        self.names = names

    async def dispatch(self, request: Request, call_next: RequestResponseEndpoint) -> Response:
        if not called(request.headers.get("host", ""), self.names):
            response: Response = PlainTextResponse(MISCALLED, 400, headers={"Connection": "close"})
        elif request.headers.get("content-length", "0") != "0" or "transfer-encoding" in request.headers:
            response = PlainTextResponse("This server takes no bodies.\n", 413, headers={"Connection": "close"})
        else:
            response = await call_next(request)
        response.headers.update(
            {
                "Content-Security-Policy": _policy(),
                "X-Content-Type-Options": "nosniff",
                "Cache-Control": "no-store",
                "Referrer-Policy": "no-referrer",
                "Cross-Origin-Resource-Policy": "same-origin",
            }
        )
        return response


def make_app(folder: RunFolder, experiment: Experiment, host: str = "127.0.0.1") -> FastAPI:
    """Return the application: GET /, /state.json, /metrics, /grafana.json, and nothing else.

    Only requests for an address, for `host` or for this machine's own name are answered, so that no page of another
    site can read it.
    """
    app, now = FastAPI(docs_url=None, redoc_url=None, openapi_url=None), _Snapshot(folder, experiment)

    def unreadable() -> Response:
        return PlainTextResponse(UNREADABLE, 503)

    @app.get("/")
    def page() -> Response:
        state = now.get()
        return unreadable() if state is None else HTMLResponse(render(state))

    @app.get("/state.json")
    def state_json() -> Response:
        state = now.get()
        return unreadable() if state is None else Response(state.to_json(), media_type="application/json")

    @app.get("/metrics")
    def metrics() -> Response:
        state = now.get()
        return unreadable() if state is None else Response(expose(state), media_type=CONTENT_TYPE_LATEST)

    @app.get("/grafana.json")
    def grafana() -> Response:
        return Response(
            files("recdistill.stream.monitor.watch").joinpath("grafana.json").read_bytes(),
            media_type="application/json",
        )

    app.add_middleware(_Guard, names=own_names(host))
    return app


def serve(folder: RunFolder, experiment: Experiment, host: str, port: int) -> None:
    """Serve until interrupted; see `serve_watch`."""
    with listening("watch", host, port) as ours, suppress(KeyboardInterrupt):
        config = uvicorn.Config(
            make_app(folder, experiment, host),
            log_level="warning",
            access_log=False,
            server_header=False,
            limit_concurrency=64,
            timeout_keep_alive=10,
            timeout_graceful_shutdown=2,
            h11_max_incomplete_event_size=16_384,
            http="h11",
            ws="none",
            lifespan="off",
        )
        Announced(config, "Prometheus: /metrics; Grafana: /grafana.json").run(sockets=[ours])

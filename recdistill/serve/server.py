"""The server's socket: on loopback by default; requests under way are answered before it ends."""

from __future__ import annotations

import asyncio
import multiprocessing
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import NamedTuple

import uvicorn
from fastapi import FastAPI

from recdistill.errors import UserError
from recdistill.serve.app import make_app
from recdistill.serve.canary_record import CanaryRecord
from recdistill.serve.histories import open_histories
from recdistill.serve.limits import CONNECTIONS, Limits
from recdistill.serve.live import Live
from recdistill.serve.processes import serve_together
from recdistill.serve.service import Log, Service
from recdistill.serve.shadow import Shadow, of_folder
from recdistill.serve.spool import RECORDS, SPOOL
from recdistill.web import announced, listening

__all__ = ["Extras", "opened", "serve"]

Make = Callable[[], AbstractContextManager[FastAPI]]
ROUTES = "POST /v1/rank; /healthz, /readyz, /metrics, /openapi.json, /docs"


class Extras(NamedTuple):
    """histories: a run's folder or an address of Redis, where users' histories are kept; log: where the request log
    goes, of the `shown` best candidates of each request (None: of all); shadow: see `of_folder`, which scores
    `shadow_share` of the requests.
    """

    histories: str | None = None
    log: str | None = None
    shown: int | None = None
    shadow: str | None = None
    shadow_share: float = 1.0


@contextmanager
def opened(root: Path, limits: Limits, extras: Extras | None = None) -> Iterator[FastAPI]:
    """Give the application of one process; what is opened for it ends with it, once all is answered.

    Raises UserError for an artefact that cannot be served, histories that cannot be had and a log that cannot be
    written.
    """
    service, extras = Service(Live(root), limits), extras or Extras()
    if extras.histories is not None:
        service.histories = open_histories(extras.histories, service.live, service.meters)
    with ExitStack() as ends:
        if extras.log is not None:
            service.log = _opened(extras.log, service, extras.shown)
            ends.callback(service.close)
        if extras.shadow is not None:
            folder = of_folder(root, extras.shadow)
            made = Shadow(folder, service.live, extras.shadow_share, root / SPOOL, service.meters.registry)
            service.observers = (*service.observers, ends.enter_context(closing(made)))
        kept = CanaryRecord(service.live, root / RECORDS, service.meters.registry)
        service.observers = (*service.observers, ends.enter_context(closing(kept)))
        yield make_app(service)


def _opened(where: str, service: Service, shown: int | None) -> Log:
    try:
        from recdistill.serve.request_log import open_log
    except ModuleNotFoundError as error:
        raise UserError(f"--log needs {error.name}; install it: pip install {error.name}") from None
    return open_log(where, service.live, service.meters, shown)


def serve(make: Make, host: str, port: int, workers: int = 1) -> None:
    """Serve until interrupted; `port` 0 takes a free one, and the address is printed. Requests under way are answered
    before it ends. make: entered in every process; what it is made of is sent there.

    Raises UserError for an artefact that cannot be served, histories that cannot be had, a log that cannot be written,
    and a port that cannot be used.
    """
    with suppress(KeyboardInterrupt), listening("serve", host, port) as ours:
        announce = partial(print, announced(ours, ROUTES), flush=True)
        if workers > 1:
            serve_together(partial(_serve, make), ours, workers, announce)
        else:
            _serve(make, ours, announce, again=False)


def _serve(make: Make, ours: socket.socket, ready: Callable[[], None], again: bool) -> None:
    """Serve on a socket that listens, and call `ready` once it does; again: in the place of a process that died."""
    with make() as app:
        service: Service = app.state.service
        if again:
            service.meters.restarts.inc()
        server = _Server(_config(app, service.limits), ready)
        for one in (signal.SIGTERM, signal.SIGINT):  # uvicorn raises it again once all is answered: no failure
            signal.signal(one, server.end)
        server.run(sockets=[ours])


def _config(app: FastAPI, limits: Limits) -> uvicorn.Config:
    return uvicorn.Config(
        app,
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


class _Server(uvicorn.Server):
    """Calls `ready` once it listens, and ends with the process that started it."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self.ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, and only then be called ready: who reads the address can connect, and interrupt."""
        await super().startup(sockets)
        first = multiprocessing.parent_process()
        if first is not None:
            asyncio.get_running_loop().add_reader(first.sentinel, self._alone, first.sentinel)
        self.ready()

    def end(self, *_: object) -> None:
        """Answer what is under way, and end."""
        self.should_exit = True

    def _alone(self, first: int) -> None:
        asyncio.get_running_loop().remove_reader(first)
        self.end()

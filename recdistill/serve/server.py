"""The server's socket: on loopback by default; requests under way are answered before it ends."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import uvicorn

from recdistill.serve.app import make_app
from recdistill.serve.limits import CONNECTIONS, Limits
from recdistill.serve.live import Live
from recdistill.serve.service import Service
from recdistill.web import Announced, listening

__all__ = ["serve"]


def serve(root: Path, host: str, port: int, limits: Limits) -> None:
    """Serve until interrupted; `port` 0 takes a free one, and the address is printed. Requests under way are answered
    before it ends.

    Raises UserError for an artefact that cannot be served and a port that cannot be used.
    """
    service = Service(Live(root), limits)
    with listening("serve", host, port) as ours, suppress(KeyboardInterrupt):
        config = uvicorn.Config(
            make_app(service),
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

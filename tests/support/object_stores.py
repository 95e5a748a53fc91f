"""Two independent S3 servers of the package index, each started on a free port for the tests that use it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPException

import pytest

from tests.support.programs import needs

__all__ = ["BUCKET", "STORES", "environment", "free_port", "object_store"]

BUCKET = "recdistill-tests"
STORES = [pytest.param(name, marks=needs("obstore", name)) for name in ("moto", "ministack")]
ATTEMPTS, PAUSE = 600, 0.2  # two minutes for a server to answer


SERVERS = {
    "moto": [sys.executable, "-m", "moto.server", "-H", "127.0.0.1"],
    "ministack": [sys.executable, "-m", "ministack"],
}


def environment(url: str) -> dict[str, str]:
    """Return the variables by which a process reaches a server."""
    return {
        "AWS_ENDPOINT_URL": url,
        "AWS_ACCESS_KEY_ID": "key-of-tests",
        "AWS_SECRET_ACCESS_KEY": "secret-of-tests",
        "AWS_REGION": "us-east-1",
        "AWS_ALLOW_HTTP": "true",
    }


def free_port() -> int:
    """Return a port of the loopback interface that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def object_store(name: str) -> Iterator[str]:
    """Start a server with the empty bucket BUCKET; give its address."""
    port = free_port()
    words = [*SERVERS[name], "-p", str(port)] if name == "moto" else SERVERS[name]
    settings = {"GATEWAY_PORT": str(port), "BIND_HOST": "127.0.0.1", "SERVICES": "s3", "LOG_LEVEL": "ERROR"}
    quiet = subprocess.DEVNULL
    server = subprocess.Popen(words, env={**os.environ, **settings}, stdout=quiet, stderr=quiet)
    try:
        _make_bucket(server, port)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.kill()
        server.wait()


def _make_bucket(server: subprocess.Popen[bytes], port: int) -> None:
    """Make BUCKET as soon as the server answers; RuntimeError where it ends or never does."""
    for _ in range(ATTEMPTS):
        if server.poll() is not None:
            break
        asked = HTTPConnection("127.0.0.1", port, timeout=60)
        try:
            asked.request("PUT", f"/{BUCKET}")
            if asked.getresponse().status == 200:
                return
        except (OSError, HTTPException):
            pass
        finally:
            asked.close()
        time.sleep(PAUSE)
    raise RuntimeError(f"no S3 server came up on port {port}")

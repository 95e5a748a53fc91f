"""Servers that imitate object stores, each started on a free port for the tests that use it: two independent ones of
S3, of the package index, and Microsoft's own of Azure Blob Storage, of npm.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from email.utils import formatdate
from http.client import HTTPConnection, HTTPException
from tempfile import TemporaryDirectory

import pytest

from tests.support.programs import needs, path_of

__all__ = ["BUCKET", "EVERYWHERE", "SECRET", "STORES", "bucket_url", "environment", "free_port", "object_store"]

BUCKET = "recdistill-tests"
SECRET = base64.b64encode(b"secret-of-tests").decode()
ACCOUNT = "accountoftests"  # of Azure
STORES = [pytest.param(name, marks=needs("obstore", name)) for name in ("moto", "ministack")]
EVERYWHERE = [*STORES, pytest.param("azurite", marks=needs("obstore", "azurite-blob"))]  # for a few tests
everywhere = pytest.mark.parametrize("bucket", EVERYWHERE, indirect=True)
ATTEMPTS, PAUSE = 600, 0.2  # two minutes for a server to answer

# It checks a condition and then puts: one request at a time, or two writers of a race win.
MOTO = """
from threading import Lock
from moto import server
call, lock = server.DomainDispatcherApplication.__call__, Lock()
def one_by_one(*request):
    with lock:
        return call(*request)
server.DomainDispatcherApplication.__call__ = one_by_one
server.main()
"""


def bucket_url(name: str) -> str:
    """Return the address of BUCKET at a server of that name."""
    return f"{'az' if name == 'azurite' else 's3'}://{BUCKET}"


def environment(name: str, url: str) -> dict[str, str]:
    """Return the variables by which a process reaches a server of that name."""
    if name == "azurite":
        return {
            "AZURE_STORAGE_ACCOUNT_NAME": ACCOUNT,
            "AZURE_STORAGE_ACCOUNT_KEY": SECRET,
            "AZURE_STORAGE_ENDPOINT": f"{url}/{ACCOUNT}",
            "AZURE_ALLOW_HTTP": "true",
        }
    return {
        "AWS_ENDPOINT_URL": url,
        "AWS_ACCESS_KEY_ID": "key-of-tests",
        "AWS_SECRET_ACCESS_KEY": SECRET,
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
    quiet = subprocess.DEVNULL
    with TemporaryDirectory() as folder:  # where azurite writes how it was started
        settings = {**os.environ, **_settings(port)}
        server = subprocess.Popen(_command(name, port), env=settings, cwd=folder, stdout=quiet, stderr=quiet)
        try:
            _make_bucket(name, server, port)
            yield f"http://127.0.0.1:{port}"
        finally:
            server.kill()
            server.wait()


def _command(name: str, port: int) -> list[str]:
    if name == "azurite":
        quiet = ["--inMemoryPersistence", "--silent", "--skipApiVersionCheck", "--disableTelemetry"]
        return [str(path_of("azurite-blob")), "--blobPort", str(port), *quiet]
    if name == "moto":
        return [sys.executable, "-c", MOTO, "-H", "127.0.0.1", "-p", str(port)]
    return [sys.executable, "-m", name]


def _settings(port: int) -> dict[str, str]:
    """Return the variables of ministack and of azurite."""
    ministack = {"GATEWAY_PORT": str(port), "BIND_HOST": "127.0.0.1", "SERVICES": "s3", "LOG_LEVEL": "ERROR"}
    return {**ministack, "AZURITE_ACCOUNTS": f"{ACCOUNT}:{SECRET}"}


def _make_bucket(name: str, server: subprocess.Popen[bytes], port: int) -> None:
    """Make BUCKET as soon as the server answers; RuntimeError where it ends or never does."""
    for _ in range(ATTEMPTS):
        if server.poll() is not None:
            break
        asked = HTTPConnection("127.0.0.1", port, timeout=60)
        try:
            if name == "azurite":
                asked.request("PUT", f"/{ACCOUNT}/{BUCKET}?restype=container", headers=_signed())
            else:
                asked.request("PUT", f"/{BUCKET}")
            if asked.getresponse().status in (200, 201):
                return
        except (OSError, HTTPException):
            pass
        finally:
            asked.close()
        time.sleep(PAUSE)
    raise RuntimeError(f"no {name} came up on port {port}")


def _signed() -> dict[str, str]:
    """Return the headers by which Azure lets the account's owner make the container BUCKET (its "Shared Key")."""
    headers = {"x-ms-date": formatdate(usegmt=True), "x-ms-version": "2024-11-04"}
    lines = "".join(f"{name}:{value}\n" for name, value in headers.items())
    text = "PUT" + 12 * "\n" + f"{lines}/{ACCOUNT}/{ACCOUNT}/{BUCKET}\nrestype:container"
    digest = hmac.new(base64.b64decode(SECRET), text.encode(), hashlib.sha256).digest()
    return {**headers, "Authorization": f"SharedKey {ACCOUNT}:{base64.b64encode(digest).decode()}"}

"""A client of the server: `Client`, and `AsyncClient` for asyncio; of the standard library alone.

    with Client("http://127.0.0.1:8378") as client:
        answer = client.rank([1, 2, 3], user=3, history={"items": [7], "times": [1.7e9]})
        answer.scores["click"]

A call has one time limit. Within it the client waits and asks again where the server answers 429 or 503, and where a
connection that stood open was closed meanwhile: ranking changes nothing, so that asking twice is safe.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import Any, NamedTuple, Self
from urllib.parse import urlsplit

from recdistill.errors import RecdistillError, UserError

__all__ = ["Address", "Answer", "AsyncClient", "Client", "RankError"]

BUSY = (429, 503)
SHOWN = 200  # characters of what a server answers, in an error
CALLS = 32  # of an AsyncClient at a time; connections that stay open


class RankError(RecdistillError):
    """The server did not rank. status: of its answer; None where there was none in time."""

    def __init__(self, line: str, status: int | None = None) -> None:
        super().__init__(line)
        self.status = status


@dataclass(frozen=True)
class Answer:
    """model, version: what scored; scores: per task a value for each candidate, in the order of the request."""

    model: str
    version: int
    scores: dict[str, list[float]]


class Address(NamedTuple):
    """Where a server listens; path: of the route that ranks."""

    host: str
    port: int
    tls: bool
    path: str

    @classmethod
    def of(cls, url: str) -> Address:
        """Return the address of `http://host:port`, with or without a path before the routes; UserError for others."""
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port
        except ValueError:
            host = None
        if not host or parts.scheme not in ("http", "https"):
            raise UserError(f"{url}: an address such as http://127.0.0.1:8378 was expected")
        tls = parts.scheme == "https"
        return cls(host, port or (443 if tls else 80), tls, f"{parts.path.rstrip('/')}/v1/rank")

    def headers(self, token: str | None) -> dict[str, str]:
        """Return the headers of a request, without its length."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        found = {"Host": f"{host}:{self.port}", "Content-Type": "application/json"}
        return {**found, "Authorization": f"Bearer {token}"} if token else found


class Client:
    """Ranks over connections that stay open. token: the server's RECDISTILL_TOKEN; seconds: of one call, with all that
    it repeats. Any number of threads may share one. Raises UserError for what is no address.
    """

    def __init__(self, url: str, token: str | None = None, seconds: float = 5.0) -> None:
        self.address, self.seconds = Address.of(url), seconds
        self._headers = self.address.headers(token)
        self._idle: list[HTTPConnection] = []

    def rank(
        self,
        items: Sequence[Any],
        user: Any = None,
        time: float | None = None,
        features: Mapping[str, Any] | None = None,
        item_features: Mapping[str, Any] | None = None,
        history: Mapping[str, Any] | None = None,
    ) -> Answer:
        """Return the scores of `items` for one user; see `recdistill serve` for what each key holds. Arrays of numpy
        may stand for lists.

        Raises RankError, with the server's line, where it does not rank; UserError for what is not JSON.
        """
        keys = {"user": user, "time": time, "features": features, "item_features": item_features, "history": history}
        return self.post({"items": items, **{name: value for name, value in keys.items() if value is not None}})

    def post(self, request: Mapping[str, Any]) -> Answer:
        """Return the answer to a request as the route takes it; raises as `rank`."""
        body, ends = _body(request), time.monotonic() + self.seconds
        while True:
            status, wait, found = self._exchange(body, ends)
            if status not in BUSY or time.monotonic() + wait >= ends:
                return _answer(status, found)
            time.sleep(wait)

    def _exchange(self, body: bytes, ends: float) -> tuple[int, float, bytes]:
        """Return (status, seconds to wait before asking again, body) of one request's answer."""
        while True:
            link, used = self._link()
            try:
                return self._sent(link, body, ends)
            except (HTTPException, OSError) as error:
                link.close()
                if not used or isinstance(error, TimeoutError):
                    raise RankError(f"{self.address.host}:{self.address.port}: {_reason(error)}") from error

    def _link(self) -> tuple[HTTPConnection, bool]:
        """Return a connection, and whether it was used before."""
        try:
            return self._idle.pop(), True
        except IndexError:
            kind = HTTPSConnection if self.address.tls else HTTPConnection
            return kind(self.address.host, self.address.port), False

    def _sent(self, link: HTTPConnection, body: bytes, ends: float) -> tuple[int, float, bytes]:
        left = ends - time.monotonic()
        if left <= 0:
            raise TimeoutError
        link.timeout = left
        if link.sock is not None:
            link.sock.settimeout(left)
        link.request("POST", self.address.path, body, self._headers)
        answer = link.getresponse()
        found, wait = answer.read(), answer.headers.get("Retry-After", "")
        if not answer.will_close and len(self._idle) < CALLS:
            self._idle.append(link)
        else:
            link.close()
        return answer.status, float(wait) if wait.isdecimal() else 1.0, found

    def close(self) -> None:
        """Close the connections that stand open."""
        while self._idle:
            self._idle.pop().close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class AsyncClient:
    """The same for asyncio: a call runs in one of 32 threads of the client's own, and keeps no other waiting."""

    def __init__(self, url: str, token: str | None = None, seconds: float = 5.0) -> None:
        self._client = Client(url, token, seconds)
        self._threads = ThreadPoolExecutor(CALLS, "recdistill-client")

    async def rank(self, items: Sequence[Any], **keys: Any) -> Answer:
        """Return the scores of `items` for one user; keys, and what it raises, as `Client.rank`."""
        work = partial(self._client.rank, items, **keys)
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    async def close(self) -> None:
        """Close the connections that stand open; calls under way end first."""
        await asyncio.to_thread(self._threads.shutdown)
        self._client.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


def _body(request: Mapping[str, Any]) -> bytes:
    try:
        return json.dumps(request, allow_nan=False, default=_plain).encode()
    except (TypeError, ValueError) as error:
        raise UserError(f"what JSON can hold was expected: {error}") from None


def _plain(value: Any) -> Any:
    """Return an array, or a number of one, as Python's own."""
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} is none of it")


def _answer(status: int, body: bytes) -> Answer:
    try:
        tree = json.loads(body)
        if status == 200:
            return Answer(tree["model"], tree["version"], tree["scores"])
        line = str(tree["error"])
    except (ValueError, KeyError, TypeError):
        line = "the answer is not one of recdistill serve"
    raise RankError(f"{status}: {line[:SHOWN]}", status)


def _reason(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return (getattr(error, "strerror", None) or "the connection ended without an answer").lower()

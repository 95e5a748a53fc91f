"""One request of any protocol from its headers to its answer: who may ask, a body that is bounded, a score, a count.

A protocol brings what reads a body to a request, and what writes an answer.
"""

from __future__ import annotations

import asyncio
import hmac
import time
import uuid
from collections.abc import Callable
from typing import NamedTuple

from fastapi import Request, Response
from starlette.requests import ClientDisconnect

from recdistill.serve import request as ranking
from recdistill.serve.limits import Limits
from recdistill.serve.refusal import RefusedError
from recdistill.serve.service import Service
from recdistill.serve.waiting import Answered

__all__ = ["Asked", "Exchange", "body_of"]

REQUEST_ID, SHOWN_ID = "x-request-id", 128  # characters of a request's id that are kept


class Asked(NamedTuple):
    """What was asked for, and what writes the answer; both may raise RefusedError."""

    request: ranking.Request
    write: Callable[[Answered], Response]


class Exchange:
    """Answers requests. token: asked of each; empty: of none."""

    def __init__(self, service: Service, token: str) -> None:
        self.service, self.token = service, token.encode()

    async def answer(self, request: Request, read: Callable[[bytes], Asked]) -> Response:
        """Return the answer to a request, a refusal too; `read` is called with its body."""
        number = request.headers.get(REQUEST_ID, "")[:SHOWN_ID] or uuid.uuid4().hex
        try:
            answer = await self._scored(request, read, number)
        except RefusedError as error:
            answer = error.answer()
        answer.headers[REQUEST_ID] = number
        self.service.meters.answers.labels(str(answer.status_code)).inc()
        return answer

    async def _scored(self, request: Request, read: Callable[[bytes], Asked], number: str) -> Response:
        self.allow(request)
        began, service = time.perf_counter(), self.service
        asked = read(await body_of(request, service.limits))
        found = await service.answer(asked.request, service.deadline(), number)
        answer = asked.write(found)
        service.meters.seconds.observe(time.perf_counter() - began)
        return answer

    def allow(self, request: Request) -> None:
        """Raise RefusedError for a request without the token, where there is one."""
        given = request.headers.get("authorization", "").removeprefix("Bearer ")
        if self.token and not hmac.compare_digest(given.encode(), self.token):
            raise RefusedError(401, "give the token: Authorization: Bearer ...")


async def body_of(request: Request, limits: Limits) -> bytes:
    """Return a body that arrives in time, is not too long and is not packed."""
    if request.headers.get("content-encoding", "identity") != "identity":
        raise RefusedError(415, "content-encoding: a body that is not compressed was expected")
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

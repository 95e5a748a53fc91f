"""A request that is not answered with scores: its status, and one line that names the field."""

from __future__ import annotations

from typing import Any

from fastapi.responses import JSONResponse
from pydantic import BaseModel

__all__ = ["OF_BODIES", "RefusedError", "Refusal", "refusals"]

WORDS = {
    400: "The connection ended within the body.",
    401: "The token is missing.",
    404: "Another model or version is served.",
    408: "The body did not arrive in time.",
    413: "The body is too long.",
    415: "The body is of another type, or compressed.",
    422: "What cannot be read: the field, and what was expected.",
    429: "Too many requests wait; see Retry-After.",
    503: "No answer in time; see Retry-After.",
}
OF_BODIES = tuple(status for status in WORDS if status != 404)  # of every route that takes one


class Refusal(BaseModel):
    """Why there is no other answer, in one line."""

    error: str


def refusals(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return these refusals as the OpenAPI page has them."""
    return {status: {"model": Refusal, "description": WORDS[status]} for status in statuses}


class RefusedError(Exception):
    """A request that is answered with a status and one line."""

    def __init__(self, status: int, line: str, wait: bool = False) -> None:
        super().__init__(line)
        self.status, self.wait = status, wait

    def answer(self) -> JSONResponse:
        """Return the answer."""
        return JSONResponse({"error": str(self)}, self.status, headers={"Retry-After": "1"} if self.wait else None)

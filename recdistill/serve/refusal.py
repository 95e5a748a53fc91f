"""A request that is not answered with scores: its status, and one line that names the field."""

from __future__ import annotations

from fastapi.responses import JSONResponse

__all__ = ["RefusedError"]


class RefusedError(Exception):
    """A request that is answered with a status and one line."""

    def __init__(self, status: int, line: str, wait: bool = False) -> None:
        super().__init__(line)
        self.status, self.wait = status, wait

    def answer(self) -> JSONResponse:
        """Return the answer."""
        return JSONResponse({"error": str(self)}, self.status, headers={"Retry-After": "1"} if self.wait else None)

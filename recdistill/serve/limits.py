"""What bounds a server's requests, and the name of the token that they need."""

from __future__ import annotations

from pydantic import BaseModel

__all__ = ["CONNECTIONS", "TOKEN", "Limits"]

TOKEN = "RECDISTILL_TOKEN"  # in the environment: asked of every request that ranks
CONNECTIONS = 1024


class Limits(BaseModel):
    """body: bytes; history: events; waiting: requests that wait for a thread; threads: requests scored at a time;
    together: requests that wait and are scored in one call; seconds: for a body to arrive, and for an answer.
    """

    body: int = 4 << 20
    history: int = 20_000
    waiting: int = 64
    threads: int = 2
    together: int = 1
    seconds: float = 5.0

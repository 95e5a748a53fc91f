"""Ids of what was served: of the request's id and the item, so that whoever knows both knows it."""

from __future__ import annotations

import hashlib

__all__ = ["request_number", "sample_of"]


def sample_of(request: str, item: int | str) -> int:
    """Return the sample id of an item that was served in answer to a request: 63 bits."""
    return request_number(f"{request}\0{item}")


def request_number(request: str) -> int:
    """Return a request's id as the tables have it: 63 bits."""
    return int.from_bytes(hashlib.blake2b(request.encode(), digest_size=8).digest(), "big") >> 1

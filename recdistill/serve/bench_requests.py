"""Requests to measure a server with: drawn from an artefact's own ids and values, or read from a file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from recdistill.data.keys import context_key
from recdistill.errors import UserError
from recdistill.serve.artefact import Artefact
from recdistill.serve.client import Address
from recdistill.serve.id_map import IdMap
from recdistill.serve.request import Past, Request

__all__ = ["drawn_requests", "http_bytes", "read_requests", "request_of"]

MOMENT = 1.7e9  # seconds since 1970; a history is of the 30 days before
DAYS = 30 * 86_400.0
VALUES = 20_000  # values of features looked at, of the artefact's
MAX_LINE = 16 << 20  # bytes


def drawn_requests(artefact: Artefact, candidates: int, events: int, count: int, seed: int = 0) -> list[dict[str, Any]]:
    """Return `count` bodies of a random known user, `candidates` known items and `events` events each; every feature
    has a known value, or a number, per candidate, which is as dear as a request can be.
    """
    draw, pools = np.random.default_rng(seed), _pools(artefact)
    return [_drawn(artefact, candidates, events, pools, draw) for _ in range(count)]


def _drawn(
    artefact: Artefact, candidates: int, events: int, pools: dict[str, list[Any]], draw: np.random.Generator
) -> dict[str, Any]:
    user = _ids(artefact.users, 1, draw)
    kinds = artefact.manifest.actions
    history: dict[str, Any] = {
        "items": _items(artefact, events, draw),
        "times": np.sort(MOMENT - draw.uniform(1, DAYS, events)).round(3).tolist(),
    }
    if kinds:
        history["actions"] = [kinds[at] for at in draw.integers(0, len(kinds), events)]
    return {
        "user": user[0] if user else None,
        "items": _items(artefact, candidates, draw),
        "time": MOMENT,
        "item_features": {
            name: _values(kind, pools.get(name, []), artefact, candidates, draw)
            for name, kind in artefact.schema.features.items()
        },
        "history": history,
    }


def _items(artefact: Artefact, count: int, draw: np.random.Generator) -> list[int | str]:
    unknown = "" if artefact.schema.item_id == "string" else 0
    return _ids(artefact.items, count, draw) or [unknown] * count


def _ids(known: IdMap, count: int, draw: np.random.Generator) -> list[int | str]:
    return known.ids(draw.integers(0, len(known), count)) if len(known) else []


def _values(kind: str, pool: list[Any], artefact: Artefact, count: int, draw: np.random.Generator) -> list[Any]:
    """Return a feature's value per candidate; None where the artefact knows none."""
    if kind == "float32":
        return list(draw.normal(size=count).round(4).tolist())
    if not pool:
        return [None] * count
    if kind.startswith("list"):
        length = artefact.schema.list_length
        return [[pool[at] for at in row] for row in draw.integers(0, len(pool), (count, length))]
    return [pool[at] for at in draw.integers(0, len(pool), count)]


def _pools(artefact: Artefact) -> dict[str, list[Any]]:
    """Return known values per feature that is no number, from the first `VALUES` of the vocabulary that all share."""
    named: dict[str, list[Any]] = {}
    prefixes = {context_key(name, ""): name for name, kind in artefact.schema.features.items() if kind != "float32"}
    for key in artefact.context.ids(np.arange(min(len(artefact.context), VALUES))):
        for prefix, name in prefixes.items():
            value = str(key).removeprefix(prefix)
            if str(key).startswith(prefix) and value:
                named.setdefault(name, []).append(int(value) if "int64" in artefact.schema.features[name] else value)
    return named


def request_of(body: dict[str, Any]) -> Request:
    """Return a drawn body as the scorer takes it."""
    past = body["history"]
    history = Past(past["items"], past["times"], past.get("actions", []))
    return Request(body["user"], body["items"], body["time"], {}, body["item_features"], history)


def read_requests(path: Path) -> list[dict[str, Any]]:
    """Return the bodies of a file of JSON, one a line. Raises UserError, which names the line, for what is none."""
    found = []
    try:
        with path.open("rb") as file:
            for number, line in enumerate(iter(lambda: file.readline(MAX_LINE), b""), 1):
                if line.strip():
                    found.append(_body(line, f"{path}:{number}"))
    except OSError as error:
        raise UserError(f"{path}: {(error.strerror or str(error)).lower()}; give a file of requests") from None
    if not found:
        raise UserError(f"{path}: no requests; one JSON object a line was expected, as POST /v1/rank takes it")
    return found


def _body(line: bytes, where: str) -> dict[str, Any]:
    try:
        tree = json.loads(line)
    except (ValueError, RecursionError):
        tree = None
    if not isinstance(tree, dict):
        raise UserError(f"{where}: a JSON object was expected, as POST /v1/rank takes it")
    return tree


def http_bytes(address: Address, token: str | None, bodies: Sequence[dict[str, Any]]) -> list[bytes]:
    """Return each body as the bytes of a whole request, so that sending it costs nothing but sending."""
    head = "".join(f"{name}: {value}\r\n" for name, value in address.headers(token).items())
    encoded = [json.dumps(body, separators=(",", ":")).encode() for body in bodies]
    return [
        f"POST {address.path} HTTP/1.1\r\n{head}Content-Length: {len(body)}\r\n\r\n".encode() + body for body in encoded
    ]

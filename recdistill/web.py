"""What our servers share: a socket that listens, and who may call them."""

from __future__ import annotations

import errno
import ipaddress
import socket

import uvicorn

from recdistill.errors import UserError

__all__ = ["Announced", "announced", "called", "listening", "own_names"]

BACKLOG = 1024  # connections that wait to be accepted


def own_names(host: str) -> set[str]:
    """Return the names by which this machine may be called, `host` among them."""
    return {name.lower() for name in ("localhost", host, socket.gethostname(), socket.getfqdn())}


def called(header: str, names: set[str]) -> bool:
    """Return whether a Host header is an address, or one of our names.

    A page of another site reaches us by a name of that site which it has made to mean our address, and the browser then
    lets it read; by an address it cannot.
    """
    host = header.rpartition("]")[0].removeprefix("[") if header.startswith("[") else header.partition(":")[0]
    try:
        return bool(ipaddress.ip_address(host))
    except ValueError:
        return host.lower().rstrip(".") in names


def listening(verb: str, host: str, port: int) -> socket.socket:
    """Return a socket that listens; UserError, which names the command, when that cannot be."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    made = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)  # asyncio looks for it before TCP_NODELAY
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        made.bind((host, port))
        made.listen(BACKLOG)
    except OSError as error:
        made.close()
        why = (
            "is in use"
            if error.errno == errno.EADDRINUSE
            else f"cannot be used: {(error.strerror or str(error)).lower()}"
        )
        raise UserError(
            f"{verb}: port {port} of {host} {why}; choose another with --port (0 takes a free one)"
        ) from None
    return made


def announced(ours: socket.socket, routes: str) -> str:
    """Return the line that names the address of a socket; routes: what stands behind it."""
    host, port = ours.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    return f"http://{shown}:{port}/  ({routes}; Ctrl-C ends it)"


class Announced(uvicorn.Server):
    """A server that prints its address once it listens; routes: what stands behind it in that line."""

    def __init__(self, config: uvicorn.Config, routes: str) -> None:
        super().__init__(config)
        self.routes = routes

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, and only then print the address: who reads it can connect, and interrupt."""
        await super().startup(sockets)
        print(announced((sockets or [])[0], self.routes), flush=True)

"""Sockets of our servers."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

from recdistill.web import listening


def test_a_small_answer_is_sent_at_once() -> None:
    """Without TCP_NODELAY the body waits 40 ms, until the caller has acknowledged the head that was sent before it."""

    async def delayed() -> int:
        accepted: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

        class Protocol(asyncio.Protocol):
            def connection_made(self, transport: asyncio.BaseTransport) -> None:
                accepted.set_result(transport.get_extra_info("socket"))

        with listening("serve", "127.0.0.1", 0) as ours:
            server = await asyncio.get_running_loop().create_server(Protocol, sock=ours)
            async with server:
                _, writer = await asyncio.open_connection(*ours.getsockname())
                found = (await accepted).getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
                writer.close()
        return int(found)

    assert asyncio.run(delayed())

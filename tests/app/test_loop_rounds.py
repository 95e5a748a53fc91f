"""A round's server: a connection that it closed meanwhile is opened again."""

from __future__ import annotations

import json
import socket
import threading

from recdistill.app.loop_rounds import Server


def test_a_connection_that_stood_idle_and_was_closed_is_opened_again() -> None:
    body = json.dumps({"scores": {"click": [0.5]}, "version": 1, "history": "none"}).encode()
    head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    with socket.create_server(("127.0.0.1", 0)) as ours:

        def serve() -> None:
            for _ in range(2):  # one answer, and the connection ends
                link, _ = ours.accept()
                while b"\r\n\r\n" not in link.recv(65_536):
                    continue
                link.sendall(head + body)
                link.close()

        thread = threading.Thread(target=serve)
        thread.start()
        server = Server(f"http://127.0.0.1:{ours.getsockname()[1]}")
        for number in ("a", "b"):
            assert server.rank(number, {}, "click") == ([0.5], 1, "none")
        thread.join()

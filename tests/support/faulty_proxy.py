"""A proxy before an HTTP server that fails where a test asks it to: before a request arrives, or after it was done."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal
from urllib.parse import urlsplit

__all__ = ["FaultyProxy", "faulty_proxy"]

Fault = Literal["lost request", "lost answer", "unavailable", "swallowed"]
OWN = {"transfer-encoding", "connection", "content-length"}  # headers of one connection


class FaultyProxy:
    """Passes requests on to `target`; `fail` says of which it does not."""

    def __init__(self, target: str) -> None:
        self.target = urlsplit(target).netloc
        self.url = ""
        self.failed = 0
        self.over = threading.Event()
        self.dropped = ""  # the header that does not arrive, as at a store that does not know it
        self._fault: tuple[re.Pattern[str], Fault, int] | None = None
        self._lock = threading.Lock()

    def fail(self, what: str, fault: Fault, times: int = 1) -> None:
        """Let the next `times` requests whose METHOD /PATH matches `what` fail."""
        self._fault, self.failed = (re.compile(what), fault, times), 0

    def fault_of(self, request: str) -> Fault | None:
        """Return how a request fails, None where it does not."""
        with self._lock:
            if self._fault is None or not self._fault[0].search(request) or self.failed == self._fault[2]:
                return None
            self.failed += 1
            return self._fault[1]

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        """Pass one request on, and its answer back, or fail."""
        body = handler.rfile.read(int(handler.headers.get("content-length") or 0))
        fault = self.fault_of(f"{handler.command} {handler.path}")
        if fault == "swallowed":  # as by a network that drops packets: no answer, and no word that there will be none
            self.over.wait()
        if fault in ("lost request", "swallowed"):
            handler.close_connection = True
            return
        if fault == "unavailable":
            handler.send_response(503)
            handler.send_header("content-length", "0")
            handler.end_headers()
            return
        upstream = HTTPConnection(self.target)
        headers = {
            name: value for name, value in handler.headers.items() if name.lower() not in {*OWN, self.dropped.lower()}
        }
        upstream.request(handler.command, handler.path, body, headers)
        found = upstream.getresponse()
        content = found.read()
        if fault == "lost answer":
            handler.close_connection = True
            return
        length = found.getheader("content-length", "0") if handler.command == "HEAD" else str(len(content))
        handler.send_response(found.status)
        for name, value in found.getheaders():
            if name.lower() not in OWN | {"date", "server"}:
                handler.send_header(name, value)
        handler.send_header("content-length", length)
        handler.end_headers()
        handler.wfile.write(content)


@contextmanager
def faulty_proxy(target: str) -> Iterator[FaultyProxy]:
    """Run a proxy before `target`, an address; its own is `url`."""
    proxy = FaultyProxy(target)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *words: object) -> None:
            """Keep quiet."""

    for method in ("GET", "PUT", "POST", "HEAD", "DELETE"):
        setattr(Handler, f"do_{method}", lambda handler: proxy.answer(handler))
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    proxy.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield proxy
    finally:
        proxy.over.set()
        server.shutdown()
        thread.join()
        server.server_close()

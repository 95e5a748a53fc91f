"""A page in headless Chromium, driven over pipes: what it shows, what it writes to the console, what it
requests from the network.
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support.programs import path_of

__all__ = ["FLAGS", "Page", "browsing"]

FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-sync",
    "--disable-background-networking",
    "--disable-component-update",
]
BOUND = 300.0  # seconds that an answer, or what a test waits for, may take


class Page:
    """One tab. `console`: its messages and uncaught errors; `requested`: the URLs it asked for."""

    def __init__(self, out: int, into: int) -> None:
        self.out, self.into = out, into
        self.console: list[str] = []
        self.requested: list[str] = []
        self._buffer, self._count, self._session = b"", 0, ""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Runtime", "Log", "Network", "Page"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Return the browser's answer to one command."""
        self._count += 1
        message = {"id": self._count, "method": method, "params": params} | (
            {"sessionId": self._session} if self._session else {}
        )
        os.write(self.out, json.dumps(message).encode() + b"\0")
        while (answer := self._next()).get("id") != self._count:
            self._event(answer)
        assert "error" not in answer, answer
        return answer["result"]

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            read = os.read(self.into, 1 << 20)
            assert read, "the browser has gone"
            self._buffer += read
        line, _, self._buffer = self._buffer.partition(b"\0")
        return json.loads(line)

    def _event(self, event: dict[str, Any]) -> None:
        given = event.get("params", {})
        if event["method"] in ("Runtime.consoleAPICalled", "Runtime.exceptionThrown"):
            self.console.append(json.dumps(given))
        elif event["method"] == "Log.entryAdded":
            self.console.append(given["entry"]["text"])
        elif event["method"] == "Network.requestWillBeSent":
            self.requested.append(given["request"]["url"])

    def open(self, url: str) -> None:
        """Go to `url` and wait for it."""
        self.call("Page.navigate", url=url)
        self.wait("document.readyState === 'complete' && location.href !== 'about:blank'")

    def ask(self, expression: str) -> Any:
        """Return the value of a JavaScript expression."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def wait(self, expression: str) -> None:
        """Wait, within BOUND, until the expression is true."""
        end = time.monotonic() + BOUND
        while not self.ask(f"Boolean({expression})"):
            assert time.monotonic() < end, f"never came true: {expression}; the page shows: {self.text()[:500]}"

    def text(self, selector: str = "body") -> str:
        """Return the text of the first element that matches."""
        return str(self.ask(f"document.querySelector({json.dumps(selector)})?.innerText"))

    def size(self, width: int, height: int = 800) -> None:
        """Show the page as a phone of this size would."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=True)

    def dark(self, value: bool) -> None:
        """Let the reader prefer dark or light."""
        given = [{"name": "prefers-color-scheme", "value": "dark" if value else "light"}]
        self.call("Emulation.setEmulatedMedia", features=given)

    def picture(self, path: Path) -> None:
        """Write the whole page to `path` (PNG)."""
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", captureBeyondViewport=True)["data"]))


@contextmanager
def browsing(folder: Path) -> Iterator[Page]:
    """Yield a page of a browser with a fresh profile in `folder`."""
    program = str(path_of("chromium"))
    (theirs_in, ours_out), (ours_in, theirs_out) = os.pipe(), os.pipe()
    shell = f'exec "$@" 3<&{theirs_in} 4>&{theirs_out} 2>/dev/null'
    command = [
        "bash",
        "-c",
        shell,
        "browser",
        program,
        *FLAGS,
        "--remote-debugging-pipe",
        f"--user-data-dir={folder / 'profile'}",
    ]
    with subprocess.Popen(command, pass_fds=(theirs_in, theirs_out)) as process:
        os.close(theirs_in)
        os.close(theirs_out)
        try:
            yield Page(ours_out, ours_in)
        finally:
            process.kill()
            os.close(ours_out)
            os.close(ours_in)

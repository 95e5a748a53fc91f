"""A nats-server of the run's own, where no other is named: JetStream in the run's folder, on the loopback interface."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from recdistill.config.stream import SourceConfig
from recdistill.errors import UserError

__all__ = ["local_nats", "server_url"]

PATIENCE = 30.0  # seconds until it must answer: it reads its data first
MAX_MESSAGE = "64MB"  # of a message


def server_url(root: Path, config: SourceConfig) -> str:
    """Return the broker's address: the one configured, or that of the server of the run's own under `root`, or ''."""
    if config.url is not None:
        return config.url
    written = root / "broker" / "url"
    return written.read_text(encoding="utf-8").strip() if config.kind == "nats" and written.exists() else ""


@contextmanager
def local_nats(root: Path) -> Iterator[str]:
    """Run a server with its data in `root`/broker and give its url, also written to url there; the port of before if it
    is free.

    Raises UserError when nats-server is not installed or does not start.
    """
    program = shutil.which("nats-server") or shutil.which("nats-server", path="/usr/sbin:/usr/local/sbin")
    if program is None:
        raise UserError(
            "nats-server is not installed; install it (Debian: apt-get install nats-server), or set stream.source.url"
        )
    folder = root.resolve() / "broker"
    folder.mkdir(parents=True, exist_ok=True)
    port = _port(folder / "url")
    (folder / "server.conf").write_text(_settings(folder, port), encoding="utf-8")
    process = subprocess.Popen(
        [program, "-c", str(folder / "server.conf")],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        _await(process, port, folder)
        (folder / "url").write_text(f"nats://127.0.0.1:{port}\n", encoding="utf-8")
        yield f"nats://127.0.0.1:{port}"
    finally:
        process.terminate()
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _settings(folder: Path, port: int) -> str:
    log, pid, store = (
        json.dumps(str(path), ensure_ascii=False) for path in (folder / "server.log", folder / "server.pid", folder)
    )
    return (
        f'listen: "127.0.0.1:{port}"\nmax_payload: {MAX_MESSAGE}\nmax_pending: 256MB\nlog_file: {log}\n'
        f"pid_file: {pid}\njetstream {{ store_dir: {store} }}\n"
    )


def _port(written: Path) -> int:
    """Return the port of the server before, if it is free, else any free one."""
    before = written.read_text(encoding="utf-8").strip().rpartition(":")[2] if written.exists() else ""
    for port in (int(before) if before.isdigit() else 0, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise UserError("no free port on 127.0.0.1; set stream.source.url to a server of yours")


def _await(process: subprocess.Popen[bytes], port: int, folder: Path) -> None:
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until and process.poll() is None:
        try:
            with socket.create_connection(("127.0.0.1", port), 1):
                return
        except OSError:
            time.sleep(0.02)
    log = folder / "server.log"
    last = log.read_text(encoding="utf-8").splitlines()[-1:] if log.exists() else []
    raise UserError(f"{folder}: nats-server did not start: {' '.join(last) or 'its log is empty'}")

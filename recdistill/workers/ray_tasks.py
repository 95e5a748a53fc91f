"""Parts as Ray tasks, on the cluster that RAY_ADDRESS names or, without, on a Ray of this machine's own.

Every machine needs the same recdistill, and sees the log and the run's folder under the same paths.
"""

from __future__ import annotations

import os
import platform
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from recdistill.errors import RecdistillError, UserError
from recdistill.workers.ledger import Ledger, Work, outcome_of

__all__ = ["in_ray"]

PATIENCE = 10.0  # seconds for a cluster to answer
TOKEN = "; where it asks for a token, set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN"  # which it does not say itself
PASSED = ("AWS_", "AZURE_", "GOOGLE_", "RECDISTILL_")  # prefixes of variables by which a task finds what we find


def _imported() -> Any:
    """Return the module ray; UserError where it is not installed."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError:
        raise UserError("workers.engine: ray is not installed; run: pip install 'recdistill[ray]'") from None
    return ray


def _knock(address: str) -> None:
    """Raise OSError where nobody answers at host:port: Ray itself would go on asking for many minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host, int(port)), timeout=PATIENCE).close()


@contextmanager
def _joined(ray: Any, count: int) -> Iterator[None]:
    """Be on a cluster meanwhile: one that this process has joined already, that of RAY_ADDRESS, or a new one here."""
    if ray.is_initialized():
        yield
        return
    address = os.environ.get("RAY_ADDRESS")
    try:
        _knock(address or "")
        own = {} if address else {"num_cpus": count, "include_dashboard": False}
        ray.init(address=address or "local", log_to_driver=False, logging_level="ERROR", **own)
    except Exception as error:  # Ray raises plain ones where its own node does not come up
        why = str(error).splitlines()[0] if str(error) else type(error).__name__
        silent = isinstance(error, ConnectionRefusedError | TimeoutError | socket.gaierror)
        hint = "" if silent or not address or "RAY_AUTH_MODE" in os.environ else TOKEN
        raise UserError(f"workers.engine: no Ray cluster at {address or 'this machine'}: {why}{hint}") from None
    try:
        yield
    finally:
        ray.shutdown()


@dataclass(frozen=True)
class _Asker:
    """The process that asked. folder: which its relative paths begin at; machine: its name; variables: of the store."""

    folder: str
    machine: str
    variables: dict[str, str]

    @classmethod
    def here(cls) -> _Asker:
        """Return this process."""
        variables = {name: value for name, value in os.environ.items() if name.startswith(PASSED)}
        return cls(os.getcwd(), platform.node(), variables)


def _at(asker: _Asker, work: Work, part: object) -> tuple[bool, Any]:
    """Return what became of a part, which finds what the process that asked would find."""
    with suppress(OSError):
        os.chdir(asker.folder)
    os.environ.update(asker.variables)
    failed, value = outcome_of(work, part)
    elsewhere = failed and platform.node() != asker.machine and isinstance(value, OSError | RecdistillError)
    return failed, _there(value) if elsewhere else value


def _there(error: Exception) -> RecdistillError:
    """Return an error that names this machine, which may lack what another has."""
    kind = UserError if isinstance(error, UserError) else RecdistillError
    return kind(f"{error} (on the machine {platform.node()})")


class _Crew:
    """The tasks that are running, by what Ray calls them."""

    def __init__(self, ray: Any, work: Work, ledger: Ledger, count: int) -> None:
        self.ray, self.ledger, self.count, self.asker = ray, ledger, count, _Asker.here()
        self.task = ray.remote(num_cpus=1, max_retries=0)(_at).remote
        self.work = ray.put(work)
        self.running: dict[Any, int] = {}

    def step(self) -> None:
        """Start tasks; wait until one is done or lost, and note it."""
        while len(self.running) < self.count and (number := self.ledger.take()) is not None:
            self.running[self.task(self.asker, self.work, self.ledger.parts[number])] = number
        for task in self.ray.wait(list(self.running), num_returns=1)[0]:
            number = self.running.pop(task)
            try:
                self.ledger.finish(number, self.ray.get(task))
            except self.ray.exceptions.RayError as error:
                self.ledger.lose(number, type(error).__name__)


def in_ray(work: Work, parts: Sequence[Any], count: int) -> Iterator[Any]:
    """Yield `work(part)` of every part, in their order, `count` at a time; see `in_parts`.

    Raises UserError where Ray, or the cluster, is not there.
    """
    ray = _imported()
    with _joined(ray, count):
        ledger = Ledger(parts, count)
        crew = _Crew(ray, work, ledger, count)
        try:
            yield from ledger.results(crew.step)
        finally:
            for task in crew.running:
                ray.cancel(task, force=True)

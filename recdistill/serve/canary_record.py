"""What a canary and the served version predicted for as many users, so that both can be held against what happened.

    user's place    0 ... share: the canary's          written, as what its version served
                    share ... 2 x share                written too, as what the served version did
                    beyond                             not written

Each stands under a name of the canary's own, given when it was answered: the times that requests bring say nothing of
whether a canary was under way. A sample's id is made of the request's id and the item, as in the request log:
`recdistill canary DIR --labels RUN` finds the outcomes by it.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter

from recdistill.serve.backlog import Backlog
from recdistill.serve.canary import place_of
from recdistill.serve.live import Live
from recdistill.serve.service import Served
from recdistill.serve.shadow import record_of
from recdistill.serve.spool import Spool

__all__ = ["CanaryRecord"]

MAX_BYTES = 256 << 20


class CanaryRecord:
    """An observer of a service; idle where no canary is under way."""

    def __init__(self, live: Live, folder: Path, registry: CollectorRegistry) -> None:
        self.live = live
        text = "Answers kept to be held against outcomes: written, dropped (the queue was full), unwritten."
        states = Counter("recdistill_canary_records", text, ["state"], registry=registry)
        self._backlog = Backlog("canary", Spool(folder, "served", MAX_BYTES), states)

    def __call__(self, served: Served) -> None:
        """Take an answer, if it is one of those that are compared."""
        trial, user = self.live.trial, served.request.user
        if trial is None or user is None or place_of(user, trial.canary.version) >= 2 * trial.canary.share:
            return
        self._backlog.put(partial(self._written, trial.canary.named(served.version), served))

    def close(self) -> None:
        """Write what waits, and end."""
        self._backlog.close()

    def _written(self, name: str, served: Served) -> str:
        """Write an answer under a name; return what became of it."""
        manifest = self.live.manifest_of(served.version)
        if manifest is None:  # the canary ended while the answer waited here
            return "dropped"
        record = record_of(served, [(name, served.model, served.scores, manifest)])
        return "written" if self._backlog.record(record) else "unwritten"

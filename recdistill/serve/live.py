"""What is served now: the version that `current.json` names, changed while requests go on.

A new version is opened, checked and warmed up by a thread of its own; requests see the old one until it is ready, and
each request one version from its beginning to its end. One that is damaged is refused, and the old one stays.
"""

from __future__ import annotations

import sys
import threading
from collections import deque
from contextlib import suppress
from pathlib import Path

from recdistill.errors import UserError
from recdistill.serve.artefact import Manifest, current_version
from recdistill.serve.pointer import POINTER
from recdistill.serve.request import Request
from recdistill.serve.scorer import Scorer

__all__ = ["Live"]

WARM = 8  # requests kept to warm a new version up


class Live:
    """The scorer in use. Raises UserError when there is none to begin with."""

    def __init__(self, root: Path, threads: int = 1) -> None:
        self.root, self.threads = root, threads
        self.refused = 0
        self._recent: deque[Request] = deque(maxlen=WARM)
        self._seen, self._loading = self._stamp(), threading.Lock()
        self.scorer = Scorer.open(root, threads)

    def _stamp(self) -> tuple[int, int]:
        """Return what changes when the pointer does; zeros for a single artefact."""
        try:
            found = (self.root / POINTER).stat()
        except OSError:
            return 0, 0
        return found.st_mtime_ns, found.st_ino

    def of(self, request: Request) -> Scorer:
        """Return the scorer for a request, and begin to load a newer version where the pointer names one."""
        self._recent.append(request)
        if self._stamp() != self._seen and self._loading.acquire(blocking=False):
            threading.Thread(target=self._load, daemon=True).start()
        return self.scorer

    def _load(self) -> None:
        """Take over what the pointer names; the caller holds `_loading`."""
        try:
            self._seen = self._stamp()
            if Manifest.read(current_version(self.root)) != self.scorer.artefact.manifest:  # a number may come again
                made = Scorer.open(self.root, self.threads)
                for request in list(self._recent):
                    with suppress(UserError):
                        made.rank(request)
                self.scorer = made
        except UserError as error:
            self.refused += 1
            print(f"recdistill: {error}; version {self.scorer.version} goes on", file=sys.stderr, flush=True)
        finally:
            self._loading.release()

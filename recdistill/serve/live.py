"""What is served now: the version that `current.json` names, changed while requests go on, and its canary.

A new version is opened, checked and warmed up by a thread of its own; requests see the old one until it is ready, and
each request one version from its beginning to its end. One that is damaged is refused, and the old one stays.
"""

from __future__ import annotations

import sys
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from recdistill.errors import UserError
from recdistill.serve.artefact import MANIFEST, Manifest, current_version
from recdistill.serve.canary import Arm, end, fault, place_of
from recdistill.serve.pointer import POINTER, Canary, read_pointer
from recdistill.serve.request import Request
from recdistill.serve.scorer import Scorer
from recdistill.typing import Array

__all__ = ["Live"]

WARM = 8  # requests kept to warm a new version up
LOOK = 50  # answers of a canary between two looks at its bounds


class _Trial:
    """A canary that is under way in this process."""

    def __init__(self, canary: Canary, scorer: Scorer) -> None:
        self.canary, self.scorer = canary, scorer
        self.mine, self.served, self.counted = Arm(), Arm(), 0

    def arm(self, scorer: Scorer) -> Arm:
        """Return where the answers of a scorer are counted."""
        return self.mine if scorer is self.scorer else self.served


class Live:
    """The scorer in use. Raises UserError when there is none to begin with."""

    def __init__(self, root: Path, threads: int = 1) -> None:
        self.root, self.threads = root, threads
        self.refused = 0
        self.trial: _Trial | None = None
        self._ending: threading.Thread | None = None
        self._recent: deque[Request] = deque(maxlen=WARM)
        self._seen, self._loading = self._stamp(), threading.Lock()
        self.scorer = Scorer.open(root, threads)
        with self._loading:
            self._refusing(self._take_canary)

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
        self.look()
        trial = self.trial
        if trial is None or request.user is None:
            return self.scorer
        chosen = place_of(request.user, trial.canary.version) < trial.canary.share
        return trial.scorer if chosen else self.scorer

    def look(self) -> None:
        """Begin to load a newer version where the pointer names one."""
        if self._stamp() != self._seen and self._loading.acquire(blocking=False):
            threading.Thread(target=self._load, daemon=True).start()

    def manifest_of(self, version: int) -> Manifest | None:
        """Return what the served version is, or the canary; None for any other."""
        trial = self.trial
        scorers = [self.scorer] if trial is None else [self.scorer, trial.scorer]
        return next((one.artefact.manifest for one in scorers if one.version == version), None)

    def answered(self, scorer: Scorer, seconds: float, scores: Array) -> None:
        """Count an answer, float32 [C, K], and end a canary that breaks a bound."""
        if (trial := self.trial) is not None:
            trial.arm(scorer).answered(seconds, scores)
            self._judge(trial, scorer)

    def failed(self, scorer: Scorer) -> None:
        """Count a request that could be read and was not answered."""
        if (trial := self.trial) is not None:
            trial.arm(scorer).failure()
            self._judge(trial, scorer)

    def _judge(self, trial: _Trial, scorer: Scorer) -> None:
        if scorer is not trial.scorer:
            return
        trial.counted += 1
        if trial.counted % LOOK:
            return
        tasks = trial.scorer.artefact.manifest.tasks, self.scorer.artefact.manifest.tasks
        why = fault(trial.mine, trial.served, trial.canary.bounds, tasks)
        if why is not None:
            self.trial = None  # here at once, elsewhere by the pointer
            self._ending = threading.Thread(target=self._end, args=(trial.canary, why), daemon=True)
            self._ending.start()

    def _end(self, canary: Canary, why: str) -> None:
        line = f"version {canary.version}, the canary, was ended: {why}"
        print(f"recdistill: {line}", file=sys.stderr, flush=True)
        try:
            end(self.root, canary.version, line)
        except (UserError, OSError) as error:
            print(f"recdistill: {error}; the pointer still names the canary", file=sys.stderr, flush=True)

    @property
    def canary(self) -> int:
        """Return the version of the canary, 0 where there is none."""
        trial = self.trial
        return 0 if trial is None else trial.scorer.version

    def _load(self) -> None:
        """Take over what the pointer names; the caller holds `_loading`."""
        try:
            self._seen = self._stamp()
            self._refusing(self._take)
        finally:
            self._loading.release()

    def _refusing(self, take: Callable[[], None]) -> None:
        """Take a version over; one that cannot be served is counted and printed, and what is there goes on."""
        try:
            take()
        except UserError as error:
            self.refused += 1
            print(f"recdistill: {error}; version {self.scorer.version} goes on", file=sys.stderr, flush=True)

    def _take(self) -> None:
        if Manifest.read(current_version(self.root)) != self.scorer.artefact.manifest:  # a number may come again
            self.scorer = self._opened()
        self._take_canary()

    def _opened(self, version: int | None = None) -> Scorer:
        """Return a scorer that has answered the newest requests: of the version that is served, or another."""
        made = Scorer.open(self.root, self.threads, version)
        for request in list(self._recent):
            with suppress(UserError):
                made.rank(request)
        return made

    def _take_canary(self) -> None:
        """Take over the pointer's canary; what is known of one goes on where only its share changed."""
        pointer = None if (self.root / MANIFEST).exists() else read_pointer(self.root)
        canary, trial = pointer.canary if pointer else None, self.trial
        if canary is None:
            self.trial = None
        elif trial is not None and (trial.canary.version, trial.canary.trial) == (canary.version, canary.trial):
            trial.canary = canary
        else:
            self.trial = None
            self.trial = _Trial(canary, self._opened(canary.version))

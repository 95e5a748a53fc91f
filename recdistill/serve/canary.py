"""A canary: a version that answers some of the users, always the same ones, until it is promoted or proves bad.

    user ---> hash ---> below the share: the canary's        a larger share only adds users
                    \\-> else: the served version's

Each process judges what it answered itself; the first one that finds a bound broken takes the canary out of the
pointer, which all follow. Without labels calibration means the mean predicted against the served version's.
"""

from __future__ import annotations

import hashlib
import math
import secrets
from collections import deque
from dataclasses import replace
from pathlib import Path

import numpy as np

from recdistill.errors import UserError
from recdistill.locks import locked
from recdistill.serve.artefact import Manifest, open_artefact
from recdistill.serve.pointer import Bounds, Canary, Pointer, read_pointer, write_pointer
from recdistill.serve.versions import changing
from recdistill.typing import Array

__all__ = ["Arm", "abort", "begin", "end", "fault", "place_of", "promote", "standing"]

RECENT = 1000  # requests that are judged, the newest
ENOUGH = 200  # requests before anything is judged
SIGMAS = 5.0  # of the difference of the means, beyond which it is no chance


def place_of(user: object, version: int) -> float:
    """Return a user's place in [0, 1), the same for 12, 12.0 and "12"; another for each version, so that it is not
    always the same users who try one.
    """
    whole = isinstance(user, float) and user.is_integer()
    text = f"{version}:{int(user) if isinstance(user, float) and whole else user}"
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=7).digest(), "big") / 2**56


def begin(root: Path, version: int, share: float, bounds: Bounds) -> Manifest:
    """Let a version answer a share of the users, or, where it does already, another share; return what it is.

    Raises UserError for one that is damaged or served, and while another canary is under way.
    """
    with changing(root):
        pointer = _pointer(root)
        if version == pointer.version:
            raise UserError(f"{root}: version {version} is served already")
        now = pointer.canary
        if now is not None and now.version != version:
            raise UserError(
                f"{root}: version {now.version} answers {now.share:.1%} of the users; promote or abort it first"
            )
        found = open_artefact(root, version).manifest
        trial = secrets.token_hex(4) if now is None else now.trial
        write_pointer(root, replace(pointer, canary=Canary(version, share, bounds, trial), ended=""))
        return found


def promote(root: Path) -> int:
    """Let the canary be what is served; return its version. UserError where there is none."""
    with changing(root):
        pointer = _pointer(root)
        version = _under_way(root, pointer).version
        open_artefact(root, version)
        write_pointer(root, pointer.to(version))
        return version


def abort(root: Path) -> int:
    """End the canary; return its version. UserError where there is none."""
    with changing(root):
        pointer = _pointer(root)
        version = _under_way(root, pointer).version
        write_pointer(root, replace(pointer, canary=None, ended=""))
        return version


def end(root: Path, version: int, why: str) -> None:
    """End the canary, if it is still this version, and keep why; waits for who else changes the pointer."""
    with locked(root / "lock", None):
        pointer = _pointer(root)
        if pointer.canary is not None and pointer.canary.version == version:
            write_pointer(root, replace(pointer, canary=None, ended=why))


def standing(root: Path) -> str:
    """Return in words what is served and what the canary is."""
    pointer = _pointer(root)
    if pointer.canary is None:
        return f"served: version {pointer.version}; no canary{f'; {pointer.ended}' if pointer.ended else ''}"
    about = f"version {pointer.canary.version}, {pointer.canary.share:.1%} of the users"
    return f"served: version {pointer.version}; canary: {about}"


def _pointer(root: Path) -> Pointer:
    found = read_pointer(root)
    if found is None:
        raise UserError(f"{root}: no versions; make one with recdistill export RUN MODEL --to DIR")
    return found


def _under_way(root: Path, pointer: Pointer) -> Canary:
    if pointer.canary is None:
        ended = f"; {pointer.ended}" if pointer.ended else ""
        raise UserError(f"{root}: there is no canary{ended}; begin one with --version and --share")
    return pointer.canary


class Arm:
    """The newest requests that one version answered: whether they failed, how long they took, what was predicted."""

    def __init__(self) -> None:
        self.failed: deque[bool] = deque(maxlen=RECENT)
        self.seconds: deque[float] = deque(maxlen=RECENT)
        self.predicted: deque[Array] = deque(maxlen=RECENT)  # float32 [K] each, the mean over the candidates

    def answered(self, seconds: float, scores: Array) -> None:
        """Count an answer, float32 [C, K]."""
        self.failed.append(False)
        self.seconds.append(seconds)
        self.predicted.append(scores.mean(0))

    def failure(self) -> None:
        """Count a request that should have been answered."""
        self.failed.append(True)

    @property
    def errors(self) -> float:
        """Return the share that failed."""
        return sum(self.failed) / max(len(self.failed), 1)


def fault(canary: Arm, served: Arm, bounds: Bounds, tasks: tuple[list[str], list[str]]) -> str | None:
    """Return which bound the canary breaks, None for none, or while too little is known. tasks: of either version.

    Where the served version has answered too few, as when the share is 1, errors alone are judged.
    """
    if len(canary.failed) >= ENOUGH and canary.errors > bounds.errors + served.errors:
        return f"{canary.errors:.1%} of its requests fail, of the served version's {served.errors:.1%}"
    if min(len(canary.seconds), len(served.seconds)) < ENOUGH:
        return None
    mine, its = (float(np.quantile(arm.seconds, 0.95)) for arm in (canary, served))
    if mine > bounds.slower * its:
        return f"95 % of its requests take up to {mine * 1e3:.1f} ms, of the served version's {its * 1e3:.1f} ms"
    return next(filter(None, (_miscalibrated(canary, served, bounds, tasks, task) for task in tasks[0])), None)


def _miscalibrated(
    canary: Arm, served: Arm, bounds: Bounds, tasks: tuple[list[str], list[str]], task: str
) -> str | None:
    """Return whether a task's mean predicted is beyond the bound, and beyond chance."""
    if task not in tasks[1]:
        return None
    mine, its = (
        np.array([one[names.index(task)] for one in arm.predicted], np.float64)
        for arm, names in ((canary, tasks[0]), (served, tasks[1]))
    )
    error = math.sqrt(mine.var() / len(mine) + its.var() / len(its))
    low, high = sorted((abs(float(mine.mean())), abs(float(its.mean()))))
    if high <= bounds.calibration * low or abs(mine.mean() - its.mean()) <= SIGMAS * error:
        return None
    return f"it predicts {mine.mean():.4g} of {task} on average, the served version {its.mean():.4g}"

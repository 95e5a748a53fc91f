"""`current.json` of a folder of versions: which one is served, what was served before it, and which one a share of the
users is answered by. It changes by one rename, so who reads it sees the old or the new.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from recdistill.data.store.memmap import read_json, sync, write_json
from recdistill.defaults import CANARY_CALIBRATION, CANARY_ERRORS, CANARY_SLOWER
from recdistill.errors import UserError

__all__ = ["POINTER", "Bounds", "Canary", "Pointer", "read_pointer", "write_pointer"]

POINTER = "current.json"
MAX_BEFORE = 16  # versions remembered


@dataclass(frozen=True)
class Bounds:
    """When a canary ends by itself. errors: share of its requests that may fail beyond the served version's share;
    slower: how many times the served version's 95th percentile of seconds; calibration: ratio of the mean predicted,
    either way.
    """

    errors: float = CANARY_ERRORS
    slower: float = CANARY_SLOWER
    calibration: float = CANARY_CALIBRATION


@dataclass(frozen=True)
class Canary:
    """A version that answers a share (0 to 1) of the users. trial: this canary's own name, so that what was predicted
    while it was under way is kept apart from all else that its version and others ever predicted.
    """

    version: int
    share: float
    bounds: Bounds = Bounds()
    trial: str = ""

    def named(self, version: int) -> str:
        """Return the name in the predictions table of what a version answered while this canary was under way."""
        return f"canary.{self.trial}.v{version}"


@dataclass(frozen=True)
class Pointer:
    """version: the one that is served; before: those that were, the last one last; a rollback takes it from there.
    canary: None where there is none; ended: why the last one ended, empty where it was not by itself.
    """

    version: int
    before: tuple[int, ...] = ()
    canary: Canary | None = None
    ended: str = ""

    def to(self, version: int) -> Pointer:
        """Return the pointer after another version took the place of this one."""
        return Pointer(version, (*self.before, self.version)[-MAX_BEFORE:])


def read_pointer(root: Path) -> Pointer | None:
    """Return the pointer of a folder of versions, None where there is none; UserError for a damaged one."""
    path = root / POINTER
    try:
        tree = read_json(path)
        canary = None if tree.get("canary") is None else _canary(tree["canary"])
        made = Pointer(
            _version(tree["version"]), tuple(map(_version, tree["before"])), canary, str(tree.get("ended", ""))
        )
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError, AttributeError, OSError, RecursionError):
        raise UserError(f"{path}: damaged; export again") from None
    return made


def _version(value: Any) -> int:
    if type(value) is not int or value < 1:
        raise ValueError
    return value


def _canary(tree: Mapping[str, Any]) -> Canary:
    bounds = Bounds(**tree["bounds"])
    numbers = [tree["share"], *asdict(bounds).values()]
    if any(type(one) not in (int, float) or not math.isfinite(one) or one < 0 for one in numbers) or tree["share"] > 1:
        raise ValueError
    trial = tree.get("trial", "")
    if re.fullmatch(r"[0-9a-f]{0,16}", trial) is None:  # of releases before: none
        raise ValueError
    return Canary(_version(tree["version"]), tree["share"], bounds, trial)


def write_pointer(root: Path, pointer: Pointer) -> None:
    """Let a folder's pointer be this one."""
    write_json(root / POINTER, asdict(pointer))
    sync(root)

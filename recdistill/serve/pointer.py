"""`current.json` of a folder of versions: which one is served, and what was served before it. It changes by one rename,
so who reads it sees the old or the new.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

from recdistill.data.store.memmap import read_json, sync, write_json
from recdistill.errors import UserError

__all__ = ["POINTER", "Pointer", "read_pointer", "write_pointer"]

POINTER = "current.json"
MAX_BEFORE = 16  # versions remembered


@dataclass(frozen=True)
class Pointer:
    """version: the one that is served; before: those that were, the last one last; a rollback takes it from there."""

    version: int
    before: tuple[int, ...] = ()

    def to(self, version: int) -> Pointer:
        """Return the pointer after another version took the place of this one."""
        return Pointer(version, (*self.before, self.version)[-MAX_BEFORE:])


def read_pointer(root: Path) -> Pointer | None:
    """Return the pointer of a folder of versions, None where there is none; UserError for a damaged one."""
    path = root / POINTER
    try:
        tree = read_json(path)
        made = Pointer(tree["version"], tuple(tree["before"]))
        if any(type(number) is not int or number < 1 for number in (made.version, *made.before)):
            raise ValueError
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError, OSError, RecursionError):
        raise UserError(f"{path}: damaged; export again") from None
    return made


def write_pointer(root: Path, pointer: Pointer) -> None:
    """Let a folder's pointer be this one."""
    write_json(root / POINTER, asdict(pointer))
    sync(root)

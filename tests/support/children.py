"""The processes that a process has started."""

from __future__ import annotations

from pathlib import Path

__all__ = ["children"]


def children(parent: int) -> dict[int, list[str]]:
    """Return the words of every child's command line by its pid; one that ends while it is asked is left out."""
    found = {}
    for pid in Path(f"/proc/{parent}/task/{parent}/children").read_text(encoding="ascii").split():
        try:
            line = Path(f"/proc/{pid}/cmdline").read_text(encoding="utf-8")
        except (FileNotFoundError, ProcessLookupError):  # ended before it was opened, or while it was open
            continue
        found[int(pid)] = line.rstrip("\0").split("\0")
    return found

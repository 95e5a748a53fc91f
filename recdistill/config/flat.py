"""A tree of keys as one level: what two configurations differ in, and what a tracker takes as parameters."""

from __future__ import annotations

__all__ = ["flat"]


def flat(tree: object, prefix: str = "") -> dict[str, object]:
    """Return {"teacher.width": 32} for {"teacher": {"width": 32}}; lists are values, empty groups vanish."""
    if isinstance(tree, dict):
        return {key: value for name, branch in tree.items() for key, value in flat(branch, f"{prefix}{name}.").items()}
    return {prefix.rstrip("."): tree}

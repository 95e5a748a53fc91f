"""Keys of features' values in the vocabulary that all features share."""

from __future__ import annotations

import json

from recdistill.data.buckets import MISSING

__all__ = ["context_key", "empty_key"]


def context_key(name: str, value: object) -> str:
    """Return the key of a feature's value in the vocabulary; the name is quoted, so that no two features share keys."""
    return f"{json.dumps(name)}={value}"


def empty_key(name: str, kind: str) -> str:
    """Return what stands in the vocabulary for a scalar feature without a value."""
    return context_key(name, MISSING if kind == "float32" else "")

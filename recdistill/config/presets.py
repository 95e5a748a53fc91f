"""Sizes of models as data: presets.yaml, whose keys a model takes over by `preset: NAME`."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Any

import yaml

from recdistill.errors import did_you_mean

__all__ = ["expanded", "presets"]


@cache
def presets() -> dict[str, dict[str, Any]]:
    """Return the keys of every preset by name, in the order of the file."""
    found: dict[str, dict[str, Any]] = yaml.safe_load(
        files("recdistill.config").joinpath("presets.yaml").read_text(encoding="utf-8")
    )
    return found


def expanded(keys: Any) -> Any:
    """Return a model's keys with those of its preset under them, options by option; ValueError for a preset
    that there is not.
    """
    if not isinstance(keys, dict) or "preset" not in keys:
        return keys
    name, known = keys["preset"], presets()
    if not isinstance(name, str) or name not in known:
        near = did_you_mean(str(name), known).partition("; known")[0]
        raise ValueError(f"there is no preset '{name}'{near}; known are {', '.join(known)}")
    own = {key: value for key, value in keys.items() if key != "preset"}
    merged = {**known[name], **own}
    if own.get("kind", known[name]["kind"]) != known[name]["kind"]:
        merged["options"] = own.get("options", {})
    elif isinstance(own.get("options"), dict):
        merged["options"] = {**known[name]["options"], **own["options"]}
    return merged

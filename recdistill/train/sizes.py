"""Which keys of a model are sizes of its network, and whether it may go on with the weights of another one: where they
differ in sizes alone. No weight is allocated.
"""

from __future__ import annotations

from typing import Any

from recdistill.compress.inherit import sizes_of
from recdistill.compress.plan import option_of, resized
from recdistill.config.models import ModelConfig
from recdistill.errors import UserError
from recdistill.train.memory_check import unallocated

__all__ = ["changes_size", "check_meaning"]

LEARNING = {"auxiliary", "balanced", "dropout", "precision", "recompute", "stochastic"}  # how it computes and learns


def changes_size(config: ModelConfig, key: str, value: Any) -> bool:
    """Return whether another value of one key, the width or an option, gives the network other widths, or cannot be
    without other keys.
    """
    try:
        other = unallocated(key, resized(config, {key: value}))
    except UserError:
        return True
    return sizes_of(other) != sizes_of(unallocated(key, config))


def check_meaning(key: str, old: ModelConfig, new: ModelConfig) -> None:
    """Raise UserError, which begins with `key`, where a network of `new` would read the weights of `old`, of its kind,
    otherwise: for other values of `numbers`, `numeric_as`, and options that are no sizes.
    """
    named = [(name, getattr(old, name), getattr(new, name)) for name in ("numbers", "numeric_as")]
    for name in sorted((old.options.keys() | new.options.keys()) - LEARNING):
        was, now = option_of(old, name), option_of(new, name)
        named += [] if was == now or changes_size(new, name, was) else [(f"options.{name}", was, now)]
    for name, was, now in named:
        if was != now:
            raise UserError(f"{key}: {name} was {was} where its weights learned, and is {now} here; give the same")

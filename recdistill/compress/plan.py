"""Which widths a student has when: a pure function of the block, so that a resumed run does the same again.

Our reading of two papers that publish no schedule: IDEA Prune (2503.05920), pruned by a cubic schedule; Alternate
Model Growth and Pruning (2105.01064), cycles of shrunken and full width that end full.
"""

from __future__ import annotations

import inspect
from typing import Any, TypeGuard

from recdistill.config.models import ModelConfig, StudentConfig
from recdistill.config.sizes import AlternateConfig, PruneConfig
from recdistill.errors import UserError, did_you_mean
from recdistill.models.factory import network_class

__all__ = ["changes_width", "check_direction", "check_plan", "config_at", "option_of", "other_size", "resized"]

Changes = dict[str, Any]


def changes_width(config: ModelConfig) -> TypeGuard[StudentConfig]:
    """Return whether a model changes its widths as it learns."""
    plans = (config.prune, config.alternate, config.pruned_from) if isinstance(config, StudentConfig) else ()
    return any(plan is not None for plan in plans)


def resized(config: ModelConfig, changes: Changes) -> ModelConfig:
    """Return the configuration with another `width`, and other options of the backbone."""
    options = config.options | {key: value for key, value in changes.items() if key != "width"}
    return config.model_copy(update={"width": changes.get("width", config.width), "options": options})


def config_at(config: ModelConfig, block: int, blocks: int) -> ModelConfig:
    """Return the configuration of a student in a block; the first `blocks` are its training on a log, those after it
    its stream's versions. Of one that is pruned from another, what it has from then on.
    """
    if not isinstance(config, StudentConfig):
        return config
    if config.prune is not None:
        return _between(config, config.prune.from_, _left(config.prune, block, blocks))
    if config.alternate is not None and _shrunken(config.alternate, block, blocks):
        return resized(config, config.alternate.to)
    return config


def _left(prune: PruneConfig, block: int, blocks: int) -> float:
    """Return which share of what is to be pruned is still there: 1 at first, then (1 - t)^3, 0 from the end on."""
    first, last = _span(prune, blocks)
    if block >= last:
        return 0.0
    return float((1 - max(0, block - first) / (last - first)) ** 3)


def _span(prune: PruneConfig, blocks: int) -> tuple[int, int]:
    """Return the last block of full size, and the first one of the student's own."""
    if prune.versions is not None:
        return blocks + prune.versions[0], blocks + prune.versions[1]
    first, last = (int(round(share * blocks, 6)) for share in (prune.start, prune.end))  # 0.29 * 100 is less than 29
    return first, last


def _shrunken(alternate: AlternateConfig, block: int, blocks: int) -> bool:
    """Return whether a block is of a cycle's first part. On a log, what is after the last whole cycle is full; the
    stream's cycles begin anew.
    """
    if blocks // alternate.every * alternate.every <= block < blocks:
        return False
    return (block - blocks if block >= blocks else block) % alternate.every < alternate.shrunken


def _between(config: StudentConfig, larger: Changes, share: float) -> ModelConfig:
    """Return the configuration between its own widths, for share 0, and the larger ones, for share 1. Widths only fall
    on the way, and divide into the heads.
    """
    if not share or share == 1:
        return resized(config, larger) if share else config
    found = {key: _mean(value, option_of(config, key), share) for key, value in larger.items()}
    if "heads" in found:
        found["heads"] = _heads(found["heads"], larger["heads"], option_of(config, "heads"))
    heads = found.get("heads", config.options.get("heads", 1))
    if "width" in found and isinstance(heads, int):
        paired = config.kind == "transformer" and config.options.get("block", "llama") == "llama"  # as RoPE turns them
        step = heads * 2 if paired else heads
        found["width"] = min(-(-found["width"] // step) * step, larger["width"])
    return resized(config, found)


def _heads(between: int, larger: int, own: int) -> int:
    """Return the next number of heads from `between` on, of larger, a divisor of it, a divisor of that ... from `own`
    on: they divide every width that `larger` divides.
    """
    way = [larger]
    while smaller := max((one for one in range(own, way[-1]) if way[-1] % one == 0), default=0):
        way.append(smaller)
    return min(one for one in way if one >= between)


def other_size(config: StudentConfig) -> ModelConfig:
    """Return the configuration of a student where its widths differ most from its own: enlarged, or shrunken."""
    if config.prune is not None:
        return _between(config, config.prune.from_, 1.0)
    return resized(config, config.alternate.to) if config.alternate is not None else config


def check_direction(config: StudentConfig) -> None:
    """Raise UserError where a student is pruned from what is not larger than its own, or shrunken to what is not
    smaller, or names what is no size of its kind.
    """
    if config.prune is not None:
        _check_sizes(config, "from", config.prune.from_, 1)
    if config.alternate is not None:
        _check_sizes(config, "to", config.alternate.to, -1)


def _check_sizes(config: StudentConfig, key: str, changes: Changes, sign: int) -> None:
    """sign: 1 where what changes must become more, -1 where less."""
    own, more = {name: option_of(config, name) for name in changes}, "more" if sign > 0 else "less"
    for name, value in changes.items():
        _check_numbers(f"{key}.{name}", value, own[name])
        if any((a - b) * sign < 0 for a, b in zip(_numbers(value), _numbers(own[name]), strict=True)):
            raise UserError(f"{key}.{name}: {value} against the student's own {own[name]}; give {more}")
    if changes == own:
        raise UserError(f"{key}: {changes} is the student's own size; give {more}")


def _numbers(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _check_numbers(key: str, value: Any, own: Any) -> None:
    """Raise UserError unless both are a number, or lists of as many numbers."""
    alike = isinstance(value, list) == isinstance(own, list) and len(_numbers(value)) == len(_numbers(own))
    if not alike or not all(isinstance(one, int) for one in (*_numbers(value), *_numbers(own))):
        raise UserError(f"{key}: {value!r} against the student's own {own!r}; give a number, or as many numbers")


def option_of(config: ModelConfig, key: str) -> Any:
    """Return a model's own value of a key, the width or an option, or its kind's default; UserError for no such one."""
    if key == "width":
        return config.width
    parameters = inspect.signature(network_class(config.kind)).parameters
    if key not in parameters:
        raise UserError(f"{key}: {config.kind} has no such option{did_you_mean(key, parameters)}")
    value = config.options.get(key, parameters[key].default)
    return [*value] if isinstance(value, tuple) else value


def _mean(larger: Any, own: Any, share: float) -> Any:
    """Return what lies between two numbers, or between lists of as many numbers, as `check_direction` has found."""
    if isinstance(larger, list):
        return [_mean(a, b, share) for a, b in zip(larger, own, strict=True)]
    return own + round((larger - own) * share)


def check_plan(name: str, config: StudentConfig, blocks: int, streams: bool = False) -> None:
    """Raise UserError, for the student `name`, where `blocks` blocks of training do not hold what is asked; streams:
    whether a stream follows them.
    """
    if config.prune is not None and config.prune.versions is not None:
        if not streams:
            raise UserError(f"{name}.prune.versions: are of a stream; give start and end, or use recdistill stream")
    elif config.prune is not None:
        first, last = _span(config.prune, blocks)
        if last <= first or last >= blocks:
            raise UserError(
                f"{name}.prune: start {config.prune.start:g} and end {config.prune.end:g} leave no step of {blocks} "
                "checkpoints, or none to recover in; lower checkpoint_rows, or move them apart"
            )
    if config.alternate is not None and blocks <= config.alternate.every:
        raise UserError(
            f"{name}.alternate: a cycle of {config.alternate.every} checkpoints and a full end do not fit the {blocks} "
            "of the log; lower checkpoint_rows, or every"
        )

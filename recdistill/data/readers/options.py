"""A reader's own arguments, typed: `data.options` into a small dataclass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from recdistill.config.data import DataConfig
from recdistill.errors import UserError, did_you_mean

__all__ = ["NoOptions", "one_of", "read_options"]

T = TypeVar("T")


@dataclass(frozen=True)
class NoOptions:
    """The options of a reader that has none."""


def read_options(config: DataConfig, kind: type[T]) -> T:
    """Return `data.options` as a `kind`; UserError names the first option it does not have or whose value
    does not fit.
    """
    known = [field.name for field in fields(kind)]  # type: ignore[arg-type]
    for name in config.options:
        if name not in known:
            raise UserError(f"data.options: the {config.reader} has no '{name}'{did_you_mean(name, known)}")
    options: dict[str, Any] = dict(config.options)
    try:
        return TypeAdapter(kind).validate_python(options)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise UserError(f"data.options.{key}: {first['msg'].lower()}; got {first['input']!r}") from None


def one_of(option: str, value: str, known: Sequence[str]) -> str:
    """Return the value of an option that names a column; UserError where it is none of the `known`."""
    if value not in known:
        raise UserError(f"data.options.{option}: no column '{value}'{did_you_mean(value, known)}")
    return value

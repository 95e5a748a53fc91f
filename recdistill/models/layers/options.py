"""A network's own options, checked against its class's annotations: types, ranges, names. Pydantic checks, and is
imported when there is something to check: networks are built where it is not installed.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Annotated, Any, get_type_hints

from torch import nn

from recdistill.errors import UserError, did_you_mean

__all__ = ["Actions", "Bounds", "Count", "Few", "Number", "Whole", "Width", "Widths", "checked_options"]


@dataclass(frozen=True)
class Bounds:
    """What a number, or by min_length a list, may be; None: anything. In an annotation, where pydantic reads it."""

    ge: float | None = None
    gt: float | None = None
    le: float | None = None
    lt: float | None = None
    min_length: int | None = None

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        """Return pydantic's own schema of `source` within these bounds."""
        from pydantic import Field

        given = {name: value for name, value in asdict(self).items() if value is not None}
        return handler.generate_schema(Annotated[source, Field(**given)])


Number = Annotated[int, Bounds(ge=0, le=1_024)]  # of things that may be none
Few = Annotated[int, Bounds(ge=1, le=1_024)]  # layers, heads, tokens: each is a part of its own
Width = Annotated[int, Bounds(ge=1, le=65_536)]  # of vectors
Whole = Annotated[int, Bounds(ge=0)]
Count = Annotated[int, Bounds(ge=1)]  # of events
Widths = Sequence[Width]
Actions = Annotated[Sequence[Annotated[int, Bounds(ge=0)]], Bounds(min_length=1)]  # by their codes
VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def checked_options(
    kind: str, network: type[nn.Module], options: dict[str, Any], given: Iterable[str]
) -> dict[str, Any]:
    """Return the options of a class, whose values fit its annotations; `given` names what the user does not choose.

    An int is taken as a float, a bool is no int, and text is not parsed. UserError names the first that is unknown or
    does not fit.
    """
    parameters = inspect.signature(network).parameters.values()
    own = [one.name for one in parameters if one.name not in given and one.kind not in VARIADIC]
    takes_any = any(one.kind is inspect.Parameter.VAR_KEYWORD for one in parameters)
    hints = get_type_hints(network.__init__, include_extras=True)
    for name in options:
        if name not in own and not takes_any:
            raise UserError(f"model {kind}: option {name!r} is not known{did_you_mean(name, own)}")
    return {name: _fitting(kind, name, hints.get(name, Any), value) for name, value in options.items()}


def _fitting(kind: str, name: str, annotation: Any, value: Any) -> Any:
    from pydantic import ConfigDict, TypeAdapter, ValidationError

    try:
        return TypeAdapter(annotation, config=ConfigDict(strict=True, allow_inf_nan=False)).validate_python(value)
    except ValidationError as error:
        first = error.errors()[0]
        at = "".join(f"[{part}]" for part in first["loc"] if isinstance(part, int))
        listed = "sequence" in first["type"] or "is_instance" in first["type"]
        message = "it should be a list" if listed else first["msg"].replace("Input", "it").replace("Value", "it")
        raise UserError(f"model {kind}: options.{name}{at}: {message}; got {str(first['input'])[:60]!r}") from None

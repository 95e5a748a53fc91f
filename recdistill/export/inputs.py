"""The inputs of a served graph: their names, their shapes, and made-up ones to trace a network with.

Shapes: R users, C candidates of all of them, L events of the longest history (fixed; padding behind), S candidates of
the user with the most, F context fields, M list slots, X numbers and W values of a sample, V numbers of a vector, U
distinct ids of a look-up (row 0 is the padding). A graph has those of them that its network reads:

    item, user      int64 [C]; context [C, F]; lists [C, M]: places among the distinct ids of each
    ids_COLUMN      int64 [U], those ids, of these four, of the history and of sequences
    history         int64 [R, L], the same of the events, oldest first; ago [R, L], us; action [R, L]
    events          int64 [R], how many of the L are real
    sequence_N      int64 [R, L], the same of what rows bring next to the history; sequence_N_ago [R, L];
                    sequence_N_events [R]
    row             int64 [C], the user of each candidate
    slots           int64 [R, S], the candidates of each user, then any; place [C], where each stands in slots.ravel()
    numbers         float32 [C, X]; values [C, W]
    vectors_SIDE    float32 [any, V], the vectors of items, of users, of the rows themselves; SIDE_vector int64 [C],
                    which is whose
    rows_N          float32 [U, width], the rows of look-up N
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from recdistill.data.batch.batch import Batch, Lookup, Vectors
from recdistill.data.batch.extras import NO_EXTRAS, Extras
from recdistill.data.batch.numbers import NUMBERS
from recdistill.models.attention.request_layout import Groups, LaidOut

__all__ = ["Input", "LookUp", "Shape", "batch_of", "columns_of", "dimensions", "example", "inputs_of"]

SIZES = {"candidates": 7, "users": 3, "slots": 4}  # of the example: a dimension of 0 or 1 would be taken for fixed
COLUMNS = ("item", "user", "context", "lists", "history")


class Shape(NamedTuple):
    """What a network was built for: L, F, M, and the rest."""

    length: int
    fields: int
    slots: int
    extras: Extras = NO_EXTRAS


class LookUp(NamedTuple):
    """One gathering of rows: the table's number in `table_modules`, the batch's column whose distinct ids it is asked
    for (see `columns_of`), the width of its rows.
    """

    table: int
    column: str
    width: int


class Input(NamedTuple):
    """One input: its type, and its dimensions, those that vary by name."""

    kind: torch.dtype
    dimensions: tuple[str | int, ...]


def inputs_of(shape: Shape, look_ups: Sequence[LookUp]) -> dict[str, Input]:
    """Return the inputs by name, in their order."""
    length, extras = shape.length, shape.extras
    found: dict[str, tuple[str | int, ...]] = {"item": ("candidates",), "user": ("candidates",)}
    found |= {"context": ("candidates", shape.fields), "lists": ("candidates", shape.slots)}
    for name in _columns(extras)[COLUMNS.index("history") :]:
        ago, events = ("ago", "events") if name == "history" else (f"{name}_ago", f"{name}_events")
        found |= {name: ("users", length), ago: ("users", length), events: ("users",)}
    found |= {
        "action": ("users", length),
        "row": ("candidates",),
        "slots": ("users", "slots"),
        "place": ("candidates",),
    }
    found |= {f"{side}_vector": ("candidates",) for side, _ in extras.vectors}
    found |= {f"ids_{column}": (f"distinct_{column}",) for column in _columns(extras)}
    numbers: dict[str, tuple[str | int, ...]] = {"numbers": ("candidates", NUMBERS)}
    numbers |= {"values": ("candidates", extras.values)}
    numbers |= {f"vectors_{side}": (f"{side}_vectors", width) for side, width in extras.vectors}
    numbers |= {f"rows_{at}": (f"distinct_{one.column}", one.width) for at, one in enumerate(look_ups)}
    made = {name: Input(torch.int64, dimensions) for name, dimensions in found.items()}
    return made | {name: Input(torch.float32, dimensions) for name, dimensions in numbers.items()}


def example(inputs: Mapping[str, Input]) -> dict[str, Tensor]:
    """Return made-up values: every place is 1."""
    free = {name for one in inputs.values() for name in one.dimensions if isinstance(name, str)} - SIZES.keys()
    sizes = SIZES | {name: 2 + max(SIZES.values()) + at for at, name in enumerate(sorted(free))}
    made = {}
    for name, (kind, dimensions) in inputs.items():
        shape = [sizes[one] if isinstance(one, str) else one for one in dimensions]
        made[name] = torch.randn(shape) if kind == torch.float32 else torch.ones(shape, dtype=kind)
    return made


def dimensions(inputs: Mapping[str, Input]) -> tuple[dict[int, torch.export.Dim], ...]:
    """Return which dimensions of each input vary."""
    named = {name for one in inputs.values() for name in one.dimensions if isinstance(name, str)}
    vary = {name: torch.export.Dim(name, min=1) for name in sorted(named)}
    return tuple(
        {at: vary[name] for at, name in enumerate(one.dimensions) if isinstance(name, str)} for one in inputs.values()
    )


def batch_of(given: Mapping[str, Tensor], shape: Shape) -> Batch:
    """Return the batch that the inputs are."""
    groups, nothing = Groups(given["row"], given["slots"], given["place"]), torch.zeros(0)
    item, user, context, lists = (Lookup(given[f"ids_{name}"], given[name]) for name in COLUMNS[:4])
    return Batch(
        sample_id=given["item"],
        item=item,
        user=user,
        context=context,
        lists=lists,
        history=_history(given, "history", given["ago"], given["events"], groups),
        sequences=tuple(
            _history(given, name, given[f"{name}_ago"], given[f"{name}_events"], groups)
            for name in _columns(shape.extras)[len(COLUMNS) :]
        ),
        vectors={side: Vectors(given[f"vectors_{side}"], given[f"{side}_vector"]) for side, _ in shape.extras.vectors},
        numbers=given["numbers"],
        values=given["values"],
        labels=nothing,
        signals=nothing,
    )


def columns_of(batch: Batch) -> list[tuple[str, Tensor]]:
    """Return the distinct ids of every column of a batch, by its name."""
    of_batch = [getattr(batch, name) for name in COLUMNS]
    columns = [*of_batch, *batch.sequences]
    return [
        (name, one.unique) for name, one in zip(_columns(Extras(sequences=len(batch.sequences))), columns, strict=True)
    ]


def _columns(extras: Extras) -> list[str]:
    return [*COLUMNS, *(f"sequence_{at}" for at in range(extras.sequences))]


def _history(given: Mapping[str, Tensor], name: str, ago: Tensor, events: Tensor, groups: Groups) -> LaidOut:
    action = given["action"] if name == "history" else torch.zeros_like(ago)
    return LaidOut.of_rows(given[f"ids_{name}"], given[name], ago, action, events, groups)

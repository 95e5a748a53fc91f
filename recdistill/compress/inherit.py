"""A network begins as another one of its kind, smaller, larger or deeper, with its own optimiser: the units of the
largest weights where it has fewer, and answers that stay where it has more.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from recdistill.compress.importance import Importance
from recdistill.compress.transplant import check_alike, move_weights
from recdistill.compress.units import NEW, grown_units, picked
from recdistill.distributed.ranks import ALONE, Ranks
from recdistill.errors import UserError
from recdistill.models.embeddings.growable import GrowableTable
from recdistill.models.factory import named_tables
from recdistill.models.widths import Dim, widths_of

__all__ = ["check_inheritance", "inherit", "sizes_of"]


def check_inheritance(old: nn.Module, new: nn.Module) -> None:
    """Raise UserError for networks that differ in more than widths that can change."""
    if not _of_one_size(old, new):
        check_alike(old, new)


def inherit(old: nn.Module, new: nn.Module, ranks: Ranks = ALONE) -> int:
    """Give `new` the weights of `old`, and the rows that it learned; return how many those are, of this rank's.

    Rows that `old` did not learn are as `new` drew them. ranks: those over which the tables of both are spread, which
    call it together. Raises UserError as `check_inheritance`.
    """
    if _of_one_size(old, new):
        new.load_state_dict(old.state_dict())
        dims, sizes, units = dict[str, Dim](), dict[str, int](), dict[str, Tensor]()
    else:
        check_alike(old, new)
        before, wanted = widths_of(old), widths_of(new).sizes
        sizes, dims = before.sizes, before.tables
        smaller = {name: min(size, sizes[name]) for name, size in wanted.items()}
        kept = Importance(old, "magnitude", ranks).kept(smaller)
        units = grown_units(before, kept, wanted, "zero", torch.Generator())
        move_weights(old, new, units)
    targets = named_tables(new)
    return sum(_rows(table, targets[path], dims.get(path), sizes, units) for path, table in named_tables(old).items())


def sizes_of(network: nn.Module) -> dict[str, int] | None:
    """Return the sizes of a network's widths, None where it has none that can change."""
    try:
        return widths_of(network).sizes
    except UserError:
        return None


def _of_one_size(old: nn.Module, new: nn.Module) -> bool:
    shapes = [{name: value.shape for name, value in net.state_dict().items()} for net in (old, new)]
    widths = [{path: table.width for path, table in named_tables(net).items()} for net in (old, new)]
    return shapes[0] == shapes[1] and widths[0] == widths[1] and sizes_of(old) == sizes_of(new)  # heads have no shape


def _rows(
    old: GrowableTable,
    new: GrowableTable,
    dim: Dim | None,
    sizes: Mapping[str, int],
    units: Mapping[str, Tensor],
) -> int:
    """Give a table the rows of another one; a new column of a dimension that reads is 0, others are as drawn."""
    state = old.state()
    rows, weight = state["rows"], state["weight"]
    if dim is not None:
        columns = picked(dim, sizes, units).old
        drawn = torch.zeros(()) if dim.reads else new.peek(rows)
        weight = torch.where(columns == NEW, drawn, weight[:, columns.clamp(min=0)])
    new.take_rows(rows, weight)
    return len(rows)

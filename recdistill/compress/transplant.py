"""The weights and the optimiser's state of one network in another of other widths."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn

from recdistill.compress.units import Growth, Picked, picked, source_of
from recdistill.errors import UserError
from recdistill.models.factory import named_tables
from recdistill.models.widths import Dim, NetworkWidths, widths_of

__all__ = ["check_alike", "move_rows", "move_weights", "moved_optimiser"]

MOMENTS = ("exp_avg", "exp_avg_sq")  # of Adam; the second one


def move_rows(old: nn.Module, new: nn.Module, units: Mapping[str, Tensor], growth: Growth = "zero") -> None:
    """Give `new` the tables' rows of `old` as `move_weights` gives it the weights, which it leaves as they are."""
    widths, targets = widths_of(old), named_tables(new)
    for name, table in named_tables(old).items():
        dim = widths.tables.get(name)
        if dim is not None:
            to = picked(dim, widths.sizes, units)
            targets[name].take_columns(
                table, to.old, to.share if dim.reads else None, zero=growth != "fresh" and dim.reads
            )
        else:
            targets[name].take_columns(table, torch.arange(table.width), None, zero=False)


def move_weights(old: nn.Module, new: nn.Module, units: Mapping[str, Tensor], growth: Growth = "zero") -> None:
    """Give `new`, which is on the host, the weights of `old`: each width is made of the old units that `units` names,
    see `picked`. The tables' rows stay as they are.

    What is new is as `new` has drawn it; but with fresh, 0 where it is read, so that the answers stay; and so is what a
    new layer adds. What reads copies of a unit, as split makes them, is shared out among them (Net2Net, 1511.05641),
    unevenly, so that they learn different things.
    Raises UserError for networks that differ in more than their widths.
    """
    widths, others = widths_of(old), widths_of(new)
    check_alike(old, new)
    before, after = {name: value.cpu() for name, value in old.state_dict().items()}, new.state_dict()
    with torch.no_grad():
        for name, values in after.items():
            source = source_of(name, widths, others, units)
            if source is not None:
                values.copy_(_moved(before[source], values, widths.dims.get(source), widths.sizes, units, growth))
            elif growth != "fresh" and _is_silent(name, others):
                values.zero_()
    new.load_state_dict(after)  # what is no parameter is a copy here


def check_alike(old: nn.Module, new: nn.Module) -> None:
    """Raise UserError for networks that differ in more than widths that can change."""
    widths, others = widths_of(old), widths_of(new)
    was, is_ = ({name: tuple(value.shape) for name, value in net.state_dict().items()} for net in (old, new))
    before, after = _by_place(was, widths), _by_place(is_, others)
    if before.keys() != after.keys() or named_tables(old).keys() != named_tables(new).keys():
        raise UserError("the two networks differ in more than their widths; change widths alone")
    for place, name in after.items():
        source = before[place]
        dims = widths.dims.get(source)
        if dims != others.dims.get(name) or (dims is None and is_[name] != was[source]):
            raise UserError(
                f"{name} would change from {was[source]} to {is_[name]}, but none of its widths can; those that can: "
                f"{', '.join(widths.sizes)}"
            )


def _by_place(names: Iterable[str], widths: NetworkWidths) -> dict[str, str]:
    """Return these names of parameters by place; of those of a stack's layers, which are alike, one for all."""
    found = dict[str, str]()
    for name in names:
        place = widths.in_layer(name)
        found[name if place is None else f"{place.width}: {place.name}"] = name
    return found


def _is_silent(name: str, widths: NetworkWidths) -> bool:
    place = widths.in_layer(name)
    return place is not None and place.name in widths.stacks[place.width].silent


def _moved(
    old: Tensor,
    drawn: Tensor,
    dims: Sequence[Dim] | None,
    sizes: Mapping[str, int],
    units: Mapping[str, Tensor],
    growth: Growth,
) -> Tensor:
    """Return what a parameter becomes; drawn: the new network's own."""
    if dims is None:
        return old
    to = [picked(dim, sizes, units) for dim in dims]
    found = _indexed(old, to)
    for at, (dim, one) in enumerate(zip(dims, to, strict=True)):
        if dim.reads:
            found = found * _along(one.share, at, found.dim()).to(found.dtype)
    read = _anywhere([one.new & dim.reads for dim, one in zip(dims, to, strict=True)])
    found = torch.where(_anywhere([one.new for one in to]), drawn, found)
    return torch.where(read, torch.zeros((), dtype=found.dtype), found) if growth != "fresh" else found


def _indexed(old: Tensor, to: Sequence[Picked]) -> Tensor:
    for at, one in enumerate(to):
        old = old.index_select(at, one.old.clamp(min=0).to(old.device))
    return old


def _along(values: Tensor, at: int, dims: int) -> Tensor:
    return values.view([-1 if d == at else 1 for d in range(dims)])


def _anywhere(marks: Sequence[Tensor]) -> Tensor:
    """Return bool, broadcast against the parameter, of whose dimensions each has marks: where any of them is set."""
    found = torch.zeros([1] * len(marks), dtype=torch.bool)
    for at, mark in enumerate(marks):
        found = found | _along(mark, at, len(marks))
    return found


def moved_optimiser(
    old: nn.Module, state: Mapping[Tensor, Mapping[str, Tensor]], new: nn.Module, units: Mapping[str, Tensor]
) -> dict[Tensor, dict[str, Tensor]]:
    """Return Adam's state of `new`'s parameters, made of that of `old`'s. What is new, or a copy, has no momentum and,
    as its second moment, the parameter's mean, so that its first steps are as long as the others'; new layers have none
    yet.
    """
    widths, others, before = widths_of(old), widths_of(new), dict(old.named_parameters())
    found = dict[Tensor, dict[str, Tensor]]()
    for name, parameter in new.named_parameters():
        source = source_of(name, widths, others, units)
        slots = None if source is None else state.get(before[source])
        if source is not None and slots:
            found[parameter] = {key: _slot(key, value.cpu(), widths, source, units) for key, value in slots.items()}
    return found


def _slot(key: str, value: Tensor, widths: NetworkWidths, name: str, units: Mapping[str, Tensor]) -> Tensor:
    dims = widths.dims.get(name)
    if key not in MOMENTS or dims is None:
        return value.clone()
    to = [picked(dim, widths.sizes, units) for dim in dims]
    moved = _indexed(value, to)
    fill = value.mean() if key == MOMENTS[1] else torch.zeros((), dtype=value.dtype)
    return torch.where(_anywhere([one.new | one.copy for one in to]), fill, moved).contiguous()

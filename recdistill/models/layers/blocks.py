"""Small dense parts shared by the backbones."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from recdistill.data.batch.batch import Batch
from recdistill.data.batch.extras import Extras
from recdistill.data.batch.numbers import NUMBERS
from recdistill.distill.sums import of_powers, powers
from recdistill.distributed.ranks import ranks_here
from recdistill.errors import UserError
from recdistill.models.attention.request_layout import Layout, lay_out
from recdistill.models.embeddings.growable import GrowableTable, TableOptions
from recdistill.models.layers.pooling import DotUnit, SequencePools
from recdistill.models.widths import Dim, NetworkWidths, Part, linear, out, under

__all__ = ["MLP", "Dice", "Dropout", "EventActions", "Inputs", "SideFeatures", "item_std", "new_table", "width_of"]


def item_std(width: int) -> float:
    """Return the first deviation of item rows: their dot products then deviate by 0.001 whatever the width.

    Smaller than usual on purpose: what an item means should come from the log, not from the seed.
    """
    return float(0.03 / width**0.25)


def new_table(name: str, width: int, std: float, options: TableOptions) -> GrowableTable:
    """Return a table that starts and learns by `options`."""
    return GrowableTable(width, seed=options.seed, name=name, std=std, optimiser=options.optimiser, rate=options.rate)


def width_of(part: nn.Module, given: int | None = None) -> int:
    """Return how wide a module's output is: `given`, or its `output_width`; UserError where neither is known."""
    width = given if given is not None else getattr(part, "output_width", None)
    if isinstance(width, int) and width < 1:
        raise UserError(f"{type(part).__name__}: its output width is {width}; it must be at least 1")
    if not isinstance(width, int):
        raise UserError(
            f"{type(part).__name__}: unknown output width; give the class an integer `output_width` or "
            "pass output_width=... to Towers"
        )
    return width


class MLP(nn.Sequential):
    """Linear and ReLU, once per entry of `hidden`: [..., inputs] -> [..., hidden[-1]]."""

    def __init__(self, inputs: int, hidden: Sequence[int]) -> None:
        layers: list[nn.Module] = []
        for width in hidden:
            layers += [nn.Linear(inputs, width), nn.ReLU()]
            inputs = width
        super().__init__(*layers)
        self.output_width = inputs

    def widths(self, read: Sequence[str | int | Part], name: str = "hidden") -> NetworkWidths:
        """Return its widths, `name`.0 and so on, where it reads `read`."""
        sizes, dims = dict[str, int](), dict[str, tuple[Dim, ...]]()
        for number, layer in enumerate([*self][::2]):
            made = (f"{name}.{number}",)
            sizes[made[0]] = int(layer.out_features)
            dims |= under(str(2 * number), linear(made, read))
            read = made
        return NetworkWidths(sizes, dims, outputs=tuple(read))


class Dropout(nn.Module):
    """Zeroes a share `rate` of what is learned through, the rest scaled up; what is only predicted, without gradients,
    passes as it is, in training mode too.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        return functional.dropout(x, self.rate) if self.rate and self.training and torch.is_grad_enabled() else x


class Dice(nn.Module):
    """DIN's data-adaptive activation (1706.06978, equation 3): p x + (1 - p) a x, p = sigmoid of x normalised.

    [..., N]; normalised over the entries that `mask` [...] keeps in training, those of all ranks where several share a
    step, by running statistics otherwise.
    """

    def __init__(self, width: int, momentum: float = 0.01) -> None:
        super().__init__()
        self.momentum = momentum
        self.slope = nn.Parameter(torch.zeros(width))
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("variance", torch.ones(width))

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        mean, variance = self.get_buffer("mean"), self.get_buffer("variance")
        now = _moments(x[mask]) if self.training else None
        if now is not None:
            with torch.no_grad():
                mean.lerp_(now[1], self.momentum)
                variance.lerp_(now[0], self.momentum)
            variance, mean = now
        p = torch.sigmoid((x - mean) * torch.rsqrt(variance + 1e-8))
        return x * (self.slope + p * (1 - self.slope))


def _moments(kept: Tensor) -> tuple[Tensor, Tensor] | None:
    """Return (variance, mean) of entries [n, N], of all ranks together, None where there are none."""
    if ranks_here().size == 1:
        return torch.var_mean(kept, dim=0, correction=0) if len(kept) else None
    from torch.distributed.nn.functional import all_reduce

    added = all_reduce(powers(kept))  # type: ignore[no-untyped-call]
    if not bool(added[0, 0]):
        return None
    mean, variance = of_powers(added, kept.dtype)
    return variance, mean


class SideFeatures(nn.Module):
    """Everything but the history: user row, context rows side by side, mean of the list rows, values, pre-trained
    vectors, numbers. `width`: their total.

    One table holds context fields and lists, which share a vocabulary. fields F, slots M as in `Batch`. Vectors
    are projected to the user's width.
    """

    def __init__(
        self, user_width: int, context_width: int, fields: int, slots: int, options: TableOptions, extras: Extras
    ) -> None:
        super().__init__()
        self.fields, self.slots, self.extras = fields, slots, extras
        self.user = new_table("user", user_width, 0.0, options)  # a new user starts at zero: no information, no noise
        self.context = new_table("context", context_width, 0.02, options)
        self.vectors = nn.ModuleDict({side: nn.Linear(width, user_width) for side, width in extras.vectors})
        rows = user_width * (1 + len(extras.vectors)) + context_width * (fields + (slots > 0))
        self.width = rows + extras.values + NUMBERS

    def widths(self, made: Part, meets: bool = False) -> NetworkWidths:
        """Return its widths: the user's is `made`; context_width. meets: whether the user meets items in dot products.
        outputs: as `forward` has them, but for NUMBERS.
        """
        parts: list[Part] = [made]
        parts += [(self.fields, "context_width")] if self.fields else []
        parts += [("context_width",)] if self.slots else []
        parts += [(self.extras.values,)] if self.extras.values else []
        dims = dict[str, tuple[Dim, ...]]()
        for side, width in self.extras.vectors:
            dims |= under(f"vectors.{side}", linear([made], [width]))
            parts.append(made)
        tables = {"user": Dim((made,), meets), "context": out(["context_width"])}
        return NetworkWidths({"context_width": self.context.width}, dims, tables, tuple(parts))

    def forward(self, batch: Batch) -> list[Tensor]:
        """Return [[B, user width], [B, F * context width], [B, context width], [B, values], [B, user width] of each
        side's vectors, [B, NUMBERS]]; all between the first and the last where there are any.
        """
        samples = batch.user.inverse.shape[0]  # len() would fix their number in a graph
        parts = [self.user(batch.user.unique).index_select(0, batch.user.inverse)]
        if self.fields:
            rows = self.context(batch.context.unique)
            parts.append(rows.index_select(0, batch.context.inverse.reshape(-1)).view(samples, -1))
        if self.slots:
            rows = self.context(batch.lists.unique)
            known = (batch.lists.inverse != 0).sum(1, keepdim=True).clamp(min=1)
            summed = rows.index_select(0, batch.lists.inverse.reshape(-1)).view(samples, self.slots, -1).sum(1)
            parts.append(summed / known)
        if self.extras.values:
            parts.append(batch.values)
        return [*parts, *self._vectors(batch), batch.numbers]

    def _vectors(self, batch: Batch) -> list[Tensor]:
        """Return what is made of the vectors of each side, [B, user width] each."""
        found = ((project, batch.vectors[side]) for side, project in self.vectors.items())
        return [project(one.values).index_select(0, one.inverse) for project, one in found]


class EventActions(nn.Module):
    """Adds the action to the item of each event: a learned vector per action type, none when there is one type."""

    def __init__(self, actions: int, width: int) -> None:
        super().__init__()
        self.vectors = nn.Parameter(torch.zeros(actions, width)) if actions > 1 else None

    def dims(self, made: Part, reads: bool = False) -> dict[str, tuple[Dim, ...]]:
        """Return the dimensions of its parameters, of events that are `made` wide."""
        return {} if self.vectors is None else {"vectors": (out([len(self.vectors)]), Dim((made,), reads))}

    def forward(self, events: Tensor, layout: Layout) -> Tensor:
        """Return events [R, L, D] with their actions' vectors added; padding stays zero."""
        return self.add(events, layout.action, layout.mask)

    def add(self, events: Tensor, action: Tensor, mask: Tensor) -> Tensor:
        """Return the same of action int64 [R, L] and mask bool [R, L]."""
        if self.vectors is None:
            return events
        actions, width = self.vectors.shape
        code = torch.where(mask, action, actions).view(-1)  # padding takes the row of zeros
        one_hot = torch.eye(actions + 1, actions, dtype=events.dtype, device=events.device).index_select(0, code)
        return torch.addmm(events.view(-1, width), one_hot, self.vectors).view(events.shape)


class Inputs(nn.Module):
    """The first layer of most backbones: one item table for candidates and events, the actions, the side features, to
    which the sequences that rows bring belong: `unit` makes what weighs their entries, see `SequencePools`.
    """

    def __init__(
        self,
        width: int,
        fields: int,
        slots: int,
        actions: int,
        context_width: int,
        tables: TableOptions,
        extras: Extras,
        unit: Callable[[], nn.Module] = DotUnit,
    ) -> None:
        super().__init__()
        self.item = new_table("item", width, item_std(width), tables)
        self.actions = EventActions(actions, width)
        self.side = SideFeatures(width, context_width, fields, slots, tables, extras)
        self.given = SequencePools(extras.sequences, width, unit)
        self.width = 2 * width + self.side.width + self.given.width

    def widths(self, made: Part = ("width",)) -> NetworkWidths:
        """Return its widths. outputs: candidate, events, side features, what is made of sequences, numbers."""
        side = self.side.widths(made)
        dims = (
            under("actions", self.actions.dims(made)) | under("side", side.dims) | under("given", self.given.dims(made))
        )
        tables = {"item": out([made])} | {f"side.{name}": dim for name, dim in side.tables.items()}
        outputs = (made, made, *side.outputs, *self.given.outputs(made), NUMBERS)
        met = {str(f) for f in made} if len(self.given.units) else set()  # entries meet the candidate in a dot product
        return NetworkWidths({**side.sizes}, dims, tables, outputs, frozenset(met))

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor, list[Tensor], Layout]:
        """Return (candidate [B, D], events [R, L, D], side features, layout)."""
        layout = lay_out(batch.history).to(self.item.device)
        candidate = self.item(batch.item.unique).index_select(0, batch.item.inverse)
        events = self.actions(layout.events(self.item(batch.history.unique)), layout)
        *side, numbers = self.side(batch)
        return candidate, events, [*side, *self.given(batch, candidate, self.item), numbers], layout

    def pooled(self, batch: Batch) -> list[Tensor]:
        """Return [candidate, mean of its events, *side features], each [B, ...]."""
        candidate, events, side, layout = self(batch)
        mean = events.sum(1) / layout.lengths.clamp(min=1)[:, None]
        return [candidate, mean.index_select(0, layout.of), *side]

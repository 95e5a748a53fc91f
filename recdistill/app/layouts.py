"""Ways to lay a token mixer's layers over many ranks, computed: sharded by rows of weights, over the ranks of a node by
tokens, and in stages one behind the other.

G ranks = tensor x stages x copies. Data, with each number of a message `width` bytes long, per rank and step:

    what is in no mixer layer, sharded over all ranks: gathered twice, and once what is in no layer, its gradients
    scattered once
    a mixer layer, sharded over copies: the same; or staying: gradients scattered, moved weights gathered
    tensor: in a layer tokens become heads and heads tokens, there and back: 4 exchanges of a group's rows, and 4 before
    the first and behind the last layer, where ranks have all tokens of their own rows
    stages: a stage sends its rows on and their gradients back

Exchanges of tensor and stages wait for the products, data moves meanwhile: a step takes the longer of the two. In a
pipeline of p stages and m pieces of a step, a stage waits for (p - 1) of (m + p - 1) turns (GPipe, 1811.06965), and
the stage with the most layers decides. Of all this `sharded` with stages = 1 is implemented (`train --shard --tensor`):
weights are gathered and tokens exchanged in full, and gradients alone may be short.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

from torch import nn

from recdistill.distributed.shard_units import gathered
from recdistill.models.backbones.token_mixer import TokenMixer
from recdistill.models.flops import Cost

__all__ = ["FULL", "Layout", "Links", "Parts", "Price", "layouts", "parts_of", "price"]

FULL = 4  # bytes of a weight, a gradient, a moment
PIECE_ROWS = 64  # of a piece of a step in a pipeline, at least: fewer leave a matrix unit idle


@dataclass(frozen=True)
class Links:
    """FLOP/s that a rank reaches; bytes/s between nodes, of each rank, and inside a node of `node` ranks; width: bytes
    of a number on its way.
    """

    speed: float
    network: float
    link: float
    node: int = 8
    width: int = FULL


@dataclass(frozen=True)
class Parts:
    """A model's numbers: outside, mixer: parameters in no mixer layer and in all of them; whole, around: of the former,
    those in no layer, gathered for all of a step, and in the largest layer; layers, tokens, heads, row (floats of a
    sample between layers), features (floats that enter): of the mixer; rest: FLOPs of a row's step outside the mixer's
    layers.
    """

    outside: int
    mixer: int
    whole: int
    around: int
    layers: int
    tokens: int
    heads: int
    row: int
    features: int
    rest: int


@dataclass(frozen=True)
class Layout:
    """tensor ranks share a layer, stages follow each other, copies learn from rows of their own; sharded: a layer is
    gathered when it is used; else it stays, and only its optimiser's state is shared out.
    """

    tensor: int
    stages: int
    copies: int
    sharded: bool

    @property
    def implemented(self) -> bool:
        """Return whether models can be trained so today."""
        return self.sharded and self.stages == 1

    @property
    def words(self) -> str:
        """Return what `recdistill train` is given for it."""
        tensor = f" --tensor {self.tensor}" if self.tensor > 1 else ""
        return f"--shard{tensor}" if self.implemented else ""


@dataclass(frozen=True)
class Price:
    """Of one rank and step. weights: bytes, with gradients, moments and what is gathered; pieces: of a step; computing,
    waiting (for rows of tensor and stages), moving (data): seconds.
    """

    layout: Layout
    weights: float
    pieces: int
    computing: float
    waiting: float
    moving: float

    @property
    def seconds(self) -> float:
        """Return the seconds of a step."""
        return max(self.computing + self.waiting, self.moving)


def parts_of(backbone: nn.Module, cost: Cost) -> Parts:
    """Return a backbone's numbers; one without a token mixer has no layers that could be laid out otherwise."""
    body, (whole, largest) = getattr(backbone, "body", None), gathered(backbone)
    if not isinstance(body, TokenMixer):
        return Parts(cost.dense_parameters, 0, whole, largest, 0, 1, 1, 0, 0, cost.step_flops)
    mixer = sum(parameter.numel() for parameter in body.layers.parameters())
    around = [gathered(part)[1] for name, part in backbone.named_children() if name != "body"]
    first = body.enter.weight if body.large and isinstance(body.enter, nn.Linear) else None
    features = first.shape[1] if first is not None else body.tokens * body.width
    return Parts(
        outside=cost.dense_parameters - mixer,
        mixer=mixer,
        whole=whole,
        around=max(around, default=0),
        layers=len(body.layers),
        tokens=body.tokens,
        heads=body.heads,
        row=body.tokens * body.width,
        features=features,
        rest=cost.step_flops - 6 * mixer,  # a product and its two gradients, 2 FLOPs a weight each
    )


def _share(ranks: int) -> float:
    """Return which share of what a group has together each of its ranks gets from the others."""
    return (ranks - 1) / ranks


def layouts(parts: Parts, gpus: int, node: int) -> Iterator[Layout]:
    """Yield the layouts of so many ranks: the one that is implemented first."""
    yield Layout(1, 1, gpus, sharded=True)
    if not parts.layers:
        return
    for tensor in range(1, node + 1):
        if gpus % tensor or node % tensor or math.gcd(parts.tokens, parts.heads) % tensor:
            continue
        for stages in range(1, parts.layers + 1):
            if (gpus // tensor) % stages == 0:
                staying = Layout(tensor, stages, gpus // tensor // stages, sharded=False)
                yield staying
                if stages == 1 and tensor > 1:
                    yield replace(staying, sharded=True)


def _weights(parts: Parts, layout: Layout, gpus: int) -> float:
    """Return bytes of weights, gradients, moments and of what is gathered, a layer and the next among it; of layers
    that stay the first two are whole.
    """
    own = parts.mixer / (layout.tensor * layout.stages)
    layer = own / max(parts.layers, 1) if layout.sharded else 0.0
    outside = 4 * FULL * parts.outside / gpus
    outside += FULL * (parts.whole + 2 * max(parts.around, layer)) if gpus > 1 else 0.0
    return outside + FULL * own * (4 / layout.copies if layout.sharded else 2 + 2 / layout.copies)


def _moved(parts: Parts, layout: Layout, links: Links, gpus: int) -> float:
    """Return bytes of data that a rank moves in a step, its embedding rows apart."""
    weight = FULL if layout.implemented else links.width
    outside = (2 * weight + links.width) * parts.outside - weight * parts.whole
    own = parts.mixer / (layout.tensor * layout.stages) * ((2 if layout.sharded else 1) * weight + links.width)
    return outside * _share(gpus) + own * _share(layout.copies)


def _waiting(parts: Parts, layout: Layout, links: Links, rows: float) -> float:
    """Return the seconds of exchanges that products wait for; rows: of a group, through all its layers."""
    part, layers = rows * parts.row / layout.tensor, parts.layers / layout.stages
    inside = _share(layout.tensor) * 4 * (layers + 1) * part
    between = 2 * part + 2 * rows * parts.features / (layout.tensor * layout.stages) if layout.stages > 1 else 0.0
    width = FULL if layout.implemented else links.width
    return width * (inside / links.link + between / links.network)


def price(parts: Parts, layout: Layout, links: Links, batch: int, tables: float) -> Price:
    """Return what a step of `batch` rows costs in a layout; tables: bytes that embedding rows move, of a rank."""
    gpus = layout.tensor * layout.stages * layout.copies
    rows = batch / layout.copies
    pieces = max(1, int(rows // PIECE_ROWS)) if layout.stages > 1 else 1
    uneven = math.ceil(parts.layers / layout.stages) * layout.stages / parts.layers if parts.layers else 1.0
    turns = (pieces + layout.stages - 1) / pieces * uneven
    each = -(-batch // gpus)
    return Price(
        layout=layout,
        weights=_weights(parts, layout, gpus),
        pieces=pieces,
        computing=each * (parts.rest + 6 * parts.mixer * turns) / links.speed,
        waiting=_waiting(parts, layout, links, rows),
        moving=(_moved(parts, layout, links, gpus) + tables) / links.network,
    )

"""Backbones built around an encoder of the history: HSTU, Transformer, LONGER, and token mixing on top of one.

Each embeds items and side features, lets candidates pass the encoder with their history, and mixes state, candidate
and side features. `encode` and `mix` take plain tensors, so that flops.py can count them on the meta device.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Annotated, Literal, cast

import torch
from torch import Tensor, nn

from recdistill.data.batch.batch import Batch
from recdistill.data.batch.extras import NO_EXTRAS, Extras
from recdistill.data.batch.numbers import NUMBERS
from recdistill.errors import UserError
from recdistill.models.attention.float8 import Float8, check_float8
from recdistill.models.attention.request_layout import Layout
from recdistill.models.backbones.token_mixer import Grouping, SecondResidual, TokenMixer, Variant
from recdistill.models.embeddings.growable import TableOptions
from recdistill.models.encoders.hstu import Columns, HSTUStack
from recdistill.models.encoders.longer import LongerStack
from recdistill.models.encoders.packed import Sequences
from recdistill.models.encoders.position_bias import Bias
from recdistill.models.encoders.stochastic_length import StochasticLength
from recdistill.models.encoders.transformer import Block, Residual, TransformerStack
from recdistill.models.layers.blocks import MLP, Inputs, width_of
from recdistill.models.layers.options import Actions, Bounds, Count, Few, Number, Whole, Width, Widths
from recdistill.models.layers.recorder import Recorder
from recdistill.models.widths import NetworkWidths, joined, norm, out, under

__all__ = ["HSTU", "Longer", "SequenceBackbone", "TokenMixerModel", "Transformer"]

Precision = Literal["float32", "bfloat16", "float8"]
Transducers = Annotated[Sequence[Actions], Bounds(min_length=1)]
Weight = Annotated[float, Bounds(ge=0)]
Rate = Annotated[float, Bounds(ge=0, lt=1)]
Expand = Annotated[float, Bounds(gt=0, le=64)]
Experts = Annotated[int, Bounds(ge=0, le=64)]  # of each token in each layer
DOTS = 2  # dot products, which reach the output directly, as the numbers do


def history_weight(length: Tensor) -> Tensor:
    """Return float32 [B], the weight of the mean dot product with `length` events (int64 [B]): it grows with the
    history, but is 5 at 200 events and 10 at 20,000, where a sum would outweigh all other features.
    """
    return torch.log1p(length.to(torch.float32))


class SequenceBackbone(nn.Module):
    """Inputs, encoders, body. encoders: each [R, L, D], [P, C, D] -> [P, C, its output_width]; actions: the event
    actions that each one encodes, None for all of them. precision: of the matrix products of the encoders and of a
    token mixer; float8: of their linear ones, where the GPU has it (float8.py), and bfloat16 for the others.
    stochastic: draws how many events to learn from; the logits of a sample that is learned from then see the same part
    of its history. A candidate enters the encoders with a vector of its own, so that it is no event (GPSD's segment
    embedding). depth: how many blocks it has, those of its encoders, which stand next to each other, and then those of
    a token mixer.
    """

    def __init__(
        self,
        inputs: Inputs,
        encoders: Sequence[nn.Module],
        body: nn.Module,
        actions: Sequence[Sequence[int]] | None = None,
        precision: Precision = "float32",
        stochastic: StochasticLength | None = None,
    ) -> None:
        super().__init__()
        self.stochastic = stochastic
        if precision not in ("float32", "bfloat16", "float8"):
            raise UserError(f"precision {precision!r} is not one of float32, bfloat16, float8")
        self.inputs, self.encoders, self.body = inputs, nn.ModuleList(encoders), body
        self.segment = nn.Parameter(torch.zeros(inputs.item.width))
        self.norms = nn.ModuleList(nn.LayerNorm(width_of(one)) for one in encoders)
        self.actions = None if actions is None else [torch.tensor(codes, device="cpu") for codes in actions]
        self.short, self.shortest = precision != "float32", precision == "float8"
        self.output_width = width_of(body) + DOTS + NUMBERS
        self.depth = _depth(encoders[0]) + (body.depth if isinstance(body, TokenMixer) else 0)
        self.block, self.recorded = 0, torch.zeros(0)

    def widths(self) -> NetworkWidths:
        """Return its widths; those of the MLP that mixes alone where there are several encoders, or LONGER's.

        Growth of `width` is not exact: norms, and candidates that meet events of the same table, stand between.
        """
        if not isinstance(self.body, MLP) or not len(self.body):
            raise UserError(f"{type(self).__name__}: no MLP mixes here, so none of its widths can change")
        encoder = self.encoders[0]
        if len(self.encoders) > 1 or not isinstance(encoder, HSTUStack | TransformerStack):
            body = self.body.widths([self.body[0].in_features])  # type: ignore[list-item]
            return joined({"body": body}, (*body.outputs, DOTS + NUMBERS))
        inputs, state = self.inputs.widths(), encoder.widths()
        candidate, common, *side, _ = inputs.outputs
        body = self.body.widths([candidate, *state.outputs, common, DOTS + NUMBERS, *side])
        own = {"segment": (out(["width"]),)} | under("norms.0", norm(["width"]))
        children = {"inputs": inputs, "encoders.0": state, "body": body}
        found = joined(children, (*body.outputs, DOTS + NUMBERS), own, {"width": self.inputs.item.width})
        return replace(found, inexact=found.inexact | {"width"})

    def record(self, block: int) -> int:
        """Keep from now on, in `recorded`, what the block of that number, from 1 to `depth`, made of the candidates:
        float32 [B, W], of the last pass, without gradient. Returns W.
        """
        self.block = block
        for encoder in self.encoders:
            _recorder(encoder).block = block
        if isinstance(self.body, TokenMixer):
            self.body.recorder.block = block - _depth(self.encoders[0])
        return sum(map(width_of, self.encoders)) if block <= _depth(self.encoders[0]) else width_of(self.body)

    def _kept(self, layout: Layout) -> Tensor:
        """Return what was kept of the last pass, [B, W]."""
        if isinstance(self.body, TokenMixer) and self.block > _depth(self.encoders[0]):
            return self.body.recorder.taken().mean(0)
        return layout.ungroup(torch.cat([_recorder(one).taken().float() for one in self.encoders], 2))

    def encode(self, events: Tensor, targets: Tensor, at: Sequences, user: Tensor) -> Tensor:
        """Return states [P, C, S] of targets [P, C, D] over their histories' events [R, L, D] and users [R, D]."""
        with self._products(events.device):
            found = [
                encoder(*self._encoded(number, events, targets, at), *[user] * getattr(encoder, "reads_user", False))
                for number, encoder in enumerate(self.encoders)
            ]
        return torch.cat(
            [norm(state.float() if self.short else state) for norm, state in zip(self.norms, found, strict=True)], 2
        )

    def _products(self, device: torch.device) -> ExitStack:
        """Return the context in which matrices are multiplied in the chosen precision."""
        with ExitStack() as products:
            if self.short:
                products.enter_context(torch.autocast(device.type, torch.bfloat16))
            if self.short and self.shortest:
                check_float8(device)
                products.enter_context(Float8())
            return products.pop_all()

    def _mixed_by_body(self, features: Tensor) -> Tensor:
        """Return [B, its output_width] of features: a token mixer, which is most of a large model, multiplies in the
        encoders' precision, an MLP in float32.
        """
        if not isinstance(self.body, TokenMixer):
            return torch.as_tensor(self.body(features))
        with self._products(features.device):
            return torch.as_tensor(self.body(features)).float()

    def _encoded(self, number: int, events: Tensor, targets: Tensor, at: Sequences) -> tuple[Tensor, Tensor, Sequences]:
        if self.actions is None:
            return events, targets, at
        at, events = at.of_actions(events, self.actions[number])
        return events, targets, at

    def forward(self, batch: Batch) -> Tensor:
        """Return [B, output_width]."""
        candidate, events, side, layout = self.inputs(batch)
        at, order = Sequences.of(layout)
        events = events if order is None else events.index_select(0, order)
        of = layout.of if order is None else order.argsort().index_select(0, layout.of)
        length = at.lengths.index_select(0, of)  # of the whole history, whatever is left of it to learn from
        if self.stochastic is not None and self.training and torch.is_grad_enabled():
            at, events = at.shortened(events, self.stochastic(at.lengths), self.stochastic.draws)
        mean = (events.sum(1) / at.lengths.clamp(min=1)[:, None]).index_select(0, of)
        sample = torch.zeros_like(at.lengths).scatter(
            0, of, torch.arange(of.shape[0], device=of.device)
        )  # of each history
        user = side[0].index_select(0, sample)
        states = layout.ungroup(self.encode(events, layout.group(candidate + self.segment), at, user))
        mixed = self.mix(candidate, states, mean, length, side)
        if self.block:
            self.recorded = self._kept(layout)
        return mixed

    def mix(self, candidate: Tensor, states: Tensor, mean: Tensor, length: Tensor, side: Sequence[Tensor]) -> Tensor:
        """Return [B, output_width] of candidates [B, D], states [B, S], the mean of their events [B, D], how many these
        are in all (int64 [B]), side features.

        The candidate's dot products with its user and with its events reach the output directly as well: without them
        an encoder predicts new items worse than a pooled history does. So do the numbers, which are logits already.
        """
        common, (*features, numbers) = candidate * mean, side
        dots = torch.stack([common.sum(1) * history_weight(length), (candidate * side[0]).sum(1)], 1)
        direct = torch.cat([dots, numbers], 1)
        mixed = self._mixed_by_body(torch.cat([candidate, states, common, direct, *features], 1))
        return torch.cat([mixed, direct], 1)


class HSTU(SequenceBackbone):
    """HSTU with ULTRA-HSTU's options; see HSTUStack and HSTULayer. One item table; an MLP mixes.

    transducers: groups of action codes, each with a stack of its own that encodes those events alone (mixture of
    transducers). stochastic: alpha of stochastic length, 0 for none; balanced: under a budget of events. See
    StochasticLength. With dropout, predictions are made without it, by a pass of their own.
    """

    def __init__(
        self,
        width: int,
        *,
        fields: int,
        slots: int,
        actions: int,
        length: int,
        layers: Few = 2,
        heads: Few = 1,
        bias: Sequence[Bias] = ("position", "time"),
        band: Count | None = None,
        columns: Whole = 0,
        columns_at: Columns = "oldest",
        key_width: Width | None = None,
        value_width: Width | None = None,
        dropout: Rate = 0.0,
        contextual: bool = False,
        newest_layers: Number = 0,
        newest: Whole = 0,
        transducers: Transducers | None = None,
        recompute: bool = False,
        stochastic: float = 0.0,
        balanced: bool = False,
        precision: Precision = "float32",
        hidden: Widths = (64, 32),
        context_width: Width = 8,
        tables: TableOptions,
        extras: Extras = NO_EXTRAS,
    ) -> None:
        _check_actions(transducers, actions)
        if balanced and not stochastic:
            raise UserError("hstu: balanced needs stochastic length; set stochastic, or leave balanced out")
        shorter = StochasticLength(stochastic, length, balanced) if stochastic else None
        inputs = Inputs(width, fields, slots, actions, context_width, tables, extras)
        stacks = [
            HSTUStack(
                width,
                heads,
                length,
                layers,
                newest_layers,
                newest,
                recompute,
                bias=bias,
                band=band,
                columns=columns,
                columns_at=columns_at,
                key_width=key_width,
                value_width=value_width,
                dropout=dropout,
                contextual=contextual,
            )
            for _ in transducers or [()]
        ]
        super().__init__(inputs, stacks, MLP(_mixed(inputs, stacks), hidden), transducers, precision, shorter)


class Transformer(SequenceBackbone):
    """Softmax blocks, Llama's or SASRec's; see TransformerStack. One item table; an MLP mixes."""

    def __init__(
        self,
        width: int,
        *,
        fields: int,
        slots: int,
        actions: int,
        length: int,
        layers: Few = 2,
        heads: Few = 1,
        block: Block = "llama",
        residual: Residual = "pre",
        bias: Sequence[Bias] = (),
        band: Count | None = None,
        precision: Precision = "float32",
        hidden: Widths = (64, 32),
        context_width: Width = 8,
        tables: TableOptions,
        extras: Extras = NO_EXTRAS,
    ) -> None:
        inputs = Inputs(width, fields, slots, actions, context_width, tables, extras)
        stack = TransformerStack(width, heads, length, layers, block, residual, bias, band)
        super().__init__(inputs, [stack], MLP(_mixed(inputs, [stack]), hidden), precision=precision)


class Longer(SequenceBackbone):
    """LONGER's sequence part; see LongerStack. One item table; an MLP mixes."""

    def __init__(
        self,
        width: int,
        *,
        fields: int,
        slots: int,
        actions: int,
        length: int,
        layers: Few = 1,
        heads: Few = 1,
        merge: Few = 4,
        queries: Count = 32,
        precision: Precision = "float32",
        hidden: Widths = (64, 32),
        context_width: Width = 8,
        tables: TableOptions,
        extras: Extras = NO_EXTRAS,
    ) -> None:
        inputs = Inputs(width, fields, slots, actions, context_width, tables, extras)
        stack = LongerStack(width, heads, length, layers, merge, queries)
        super().__init__(inputs, [stack], MLP(_mixed(inputs, [stack]), hidden), precision=precision)


class TokenMixerModel(SequenceBackbone):
    """Token mixing over candidate, side features and the state that LONGER's part makes of the history: Rec-Distill's
    teacher.

    layers, merge, queries: see LongerStack; mixer_width, mixer_heads, mixer_layers, tokens, expand, variant, grouping,
    experts, active, residual: see TokenMixer. auxiliary: weight of the labels' loss on logits of the states between
    blocks; 0: none. See Towers.
    """

    body: TokenMixer

    def __init__(
        self,
        width: int,
        *,
        fields: int,
        slots: int,
        actions: int,
        length: int,
        layers: Few = 1,
        heads: Few = 1,
        merge: Few = 4,
        queries: Count = 32,
        tokens: Few = 8,
        mixer_width: Width = 64,
        mixer_layers: Few = 2,
        mixer_heads: Few | None = None,
        expand: Expand = 2.0,
        variant: Variant = "tokenmixer-large",
        grouping: Grouping = "learned",
        experts: Experts = 0,
        active: Few = 1,
        residual: SecondResidual = "mixed",
        auxiliary: Weight = 0.0,
        precision: Precision = "float32",
        context_width: Width = 8,
        tables: TableOptions,
        extras: Extras = NO_EXTRAS,
    ) -> None:
        inputs = Inputs(width, fields, slots, actions, context_width, tables, extras)
        stack = LongerStack(width, heads, length, layers, merge, queries)
        body = TokenMixer(
            _mixed(inputs, [stack]),
            tokens=tokens,
            width=mixer_width,
            layers=mixer_layers,
            heads=mixer_heads,
            expand=expand,
            variant=variant,
            grouping=grouping,
            experts=experts,
            active=active,
            residual=residual,
            between=auxiliary > 0,
        )
        super().__init__(inputs, [stack], body, precision=precision)
        self.auxiliary = auxiliary

    def taken(self) -> list[Tensor]:
        """Return the states [B, mixer_width] between blocks of the last pass that learned, and forget them."""
        states, self.body.passed = self.body.passed, []
        return states


def _depth(encoder: nn.Module) -> int:
    return cast(int, encoder.depth)


def _recorder(encoder: nn.Module) -> Recorder:
    return cast(Recorder, encoder.recorder)


def _mixed(inputs: Inputs, encoders: Sequence[nn.Module]) -> int:
    """Return how wide what the body mixes is: candidate, its product with the mean event, side features,
    numbers among them, states, dot products.
    """
    return inputs.width + sum(width_of(one) for one in encoders) + DOTS


def _check_actions(groups: Sequence[Sequence[int]] | None, actions: int) -> None:
    for code in (code for group in groups or [] for code in group):
        if not 0 <= code < actions:
            raise UserError(f"hstu: transducers: action {code} is not in the log, which has actions 0 to {actions - 1}")

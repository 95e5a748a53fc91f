"""Target attention for large teachers and light students: what the candidate has in common with each past event.

Two item tables, one for candidates and one for events. Sums of dot products under recency weights need no dot product
per pair: sum_l w_l <x, h_l> = <x, sum_l w_l h_l>, and the sum on the right is made once per history.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from recdistill.data.batch.ages import AGES, age_bucket
from recdistill.data.batch.batch import Batch
from recdistill.data.batch.extras import NO_EXTRAS, Extras
from recdistill.data.batch.numbers import NUMBERS
from recdistill.errors import UserError
from recdistill.models.attention.request_layout import Layout, lay_out
from recdistill.models.attention.target_ops import EMPTY, dots, split_heads, weighted_sum
from recdistill.models.embeddings.growable import TableOptions
from recdistill.models.layers.blocks import MLP, EventActions, SideFeatures, item_std, new_table
from recdistill.models.layers.options import Few, Width, Widths
from recdistill.models.layers.pooling import DotUnit, SequencePools
from recdistill.models.widths import Dim, NetworkWidths, Part, joined, out, under

__all__ = ["TargetAttention"]

OUTCOME = 4  # width of an action's vector in what the user's actions were on the whole
FLOOR = -5.0  # the maximum of no dot products
STEEPEST = 0.05  # first decay of the fastest kernel, per doubling of the age
RECENT = 6  # ages below 2^6 s start with weight 1


class TargetAttention(nn.Module):
    """Per head: dots with the events summed under `kernels` learned recency kernels, their maximum and log-sum-exp.

    An event is its item and, where there are several actions, its action; what the user's actions were on the whole,
    all alike and under each kernel, is a feature. Further: an item bias, a user x item dot, the side features, and with
    `rich` the candidate, its softmax-attended history and the recency-pooled history themselves. An MLP mixes all of
    it; the dots, the actions and the batch's numbers also reach the output directly.
    """

    def __init__(
        self,
        width: int,
        *,
        fields: int,
        slots: int,
        actions: int,
        heads: Few = 1,
        kernels: Few = 1,
        hidden: Widths = (64, 32),
        rich: bool = False,
        context_width: Width = 8,
        tables: TableOptions,
        extras: Extras = NO_EXTRAS,
    ) -> None:
        super().__init__()
        if width % heads:
            raise UserError(f"target-attention: width {width} is not a multiple of heads {heads}; change one of them")
        self.heads, self.kernels, self.rich = heads, kernels, rich
        self.item = new_table("item", width, item_std(width), tables)
        self.past = new_table("past", width, item_std(width), tables)
        self.bias = new_table("bias", 1, 0.0, tables)
        self.side = SideFeatures(width, context_width, fields, slots, tables, extras)
        self.given = SequencePools(extras.sequences, width, DotUnit)
        decay = STEEPEST * (torch.arange(kernels) + 1) / kernels
        start = -decay * (torch.arange(AGES) - RECENT).clamp(min=0)[:, None]
        self.recency = nn.Parameter(start.repeat(1, heads))  # [AGES, heads * kernels], log weights
        self.action = nn.Parameter(torch.zeros(actions, heads * kernels)) if actions > 1 else None
        self.actions = EventActions(actions, width)
        self.outcome = nn.Parameter(torch.randn(actions, OUTCOME)) if actions > 1 else None
        direct = heads * (kernels + 2) + 3 + (actions > 1) * OUTCOME * (1 + heads * kernels)
        self.body = MLP(direct + self.side.width + self.given.width + rich * (2 + kernels) * width, hidden)
        self.output_width = self.body.output_width + direct + NUMBERS

    def widths(self) -> NetworkWidths:
        """Return its widths: heads, head_width, context_width, hidden.0 ..."""
        made: Part = ("heads", "head_width")
        side, kernels = self.side.widths(made, meets=True), ("heads", self.kernels)
        own: dict[str, tuple[Dim, ...]] = {"recency": (out([AGES]), out([kernels]))}
        outcomes: list[Part] = []
        if self.action is not None and self.outcome is not None:
            own["action"] = (out([len(self.action)]), out([kernels]))
            outcomes = [(OUTCOME,), (*kernels, OUTCOME)]
        own |= under("actions", self.actions.dims(made, reads=True)) | under("given", self.given.dims(made, reads=True))
        match: list[Part] = [("heads", self.kernels + 2), (1,), (1,), (1,), (NUMBERS,), *outcomes]
        rich: list[Part] = [made, made, ("heads", self.kernels, "head_width")] if self.rich else []
        body = self.body.widths([*match, *side.outputs, *self.given.outputs(made), *rich])
        tables = {"item": out([made]), "past": Dim((made,), reads=True), "bias": out([1])}
        sizes = {"heads": self.heads, "head_width": self.item.width // self.heads}
        found = joined({"side": side, "body": body}, (*body.outputs, *match), own, sizes, tables)
        scaled = (
            {"heads", "head_width"} if len(self.given.units) else set[str]()
        )  # DotUnit divides by the root of the width
        return replace(found, inexact=frozenset(scaled))

    def weights(self, layout: Layout) -> Tensor:
        """Return [R, L, heads * kernels], each event's weight by its age and action; padding has weight 0."""
        log: Tensor = self.recency
        code = age_bucket(layout.ago)
        if self.action is not None:
            log = (log[:, None] + self.action).flatten(0, 1)
            code = code * len(self.action) + layout.action
        weights = log.exp().index_select(0, code.view(-1)).view(*code.shape, -1)
        return weights * layout.mask.unsqueeze(2)

    def forward(self, batch: Batch) -> Tensor:
        """Return [B, output_width]."""
        layout = lay_out(batch.history).to(self.item.device)
        x = self.item(batch.item.unique).index_select(0, batch.item.inverse)
        *side, numbers = self.side(batch)
        side += self.given(batch, x, self.past)
        weights = self.weights(layout)
        events = self.actions(layout.events(self.past(batch.history.unique)), layout)
        match, rich = self._match(x, events, weights, layout)
        bias = self.bias(batch.item.unique).index_select(0, batch.item.inverse)
        length = torch.log1p(layout.lengths.to(x.dtype)).index_select(0, layout.of)[:, None]
        direct = torch.cat(
            [match, (x * side[0]).sum(1, keepdim=True), bias, length, numbers, *self._outcomes(weights, layout)], 1
        )
        return torch.cat([self.body(torch.cat([direct, *side, *rich], 1)), direct], 1)

    def _outcomes(self, weights: Tensor, layout: Layout) -> list[Tensor]:
        """Return [[B, OUTCOME * (1 + heads * kernels)]], the mean vectors of each user's actions, near zero for few of
        them; nothing where there is but one action.
        """
        if self.outcome is None:
            return []
        vectors = self.outcome.index_select(0, layout.action.view(-1)).view(*layout.action.shape, -1)
        each = torch.cat([layout.mask.unsqueeze(2).to(weights.dtype), weights], 2)
        means = weighted_sum(each, vectors) / (each.sum(1).unsqueeze(2) + 1)
        return [means.flatten(1).index_select(0, layout.of)]

    def _match(self, x: Tensor, events: Tensor, weights: Tensor, layout: Layout) -> tuple[Tensor, list[Tensor]]:
        """Return ([B, heads * (kernels + 2)], rich parts [B, ...]) of candidates x [B, D], events [R, L, D] and their
        weights.
        """
        weights = split_heads(weights, self.heads)  # [R * H, L, K]
        by_head = split_heads(events, self.heads)
        pooled = weighted_sum(weights, by_head)  # [R * H, K, d]
        histories = layout.index.shape[0]
        pieces = self._pieces(layout, pooled, histories)
        candidates = split_heads(layout.group(x), self.heads)  # [P * H, C, d]
        events_p, mask = self._pieces(layout, by_head, histories), layout.pieces(layout.mask)
        scores = dots(candidates, events_p)
        padding = ~mask.repeat_interleave(self.heads, 0).unsqueeze(1) if self.heads > 1 else ~mask.unsqueeze(1)
        scores = scores.masked_fill(padding, EMPTY)  # [P * H, C, L]
        top = scores.amax(2, keepdim=True).clamp(min=FLOOR)
        soft = scores.logsumexp(2, keepdim=True).clamp(min=FLOOR)
        match = self._samples(layout, torch.cat([dots(candidates, pieces), top, soft], 2))
        if not self.rich:
            return match, []
        total = weights.sum(1).unsqueeze(2) + 1  # [R * H, K, 1]
        mean = (pooled / total).view(histories, -1).index_select(0, layout.of)
        attended = self._samples(layout, torch.bmm(scores.softmax(2), events_p))
        return match, [x, attended, mean]

    def _pieces(self, layout: Layout, x: Tensor, histories: int) -> Tensor:
        """Return [P * H, ...] of [R * H, ...]."""
        return x if layout.piece is None else layout.pieces(x.view(histories, self.heads, *x.shape[1:])).flatten(0, 1)

    def _samples(self, layout: Layout, x: Tensor) -> Tensor:
        """Return [B, H * n] of [P * H, C, n]."""
        if self.heads > 1:
            x = x.view(-1, self.heads, *x.shape[1:]).transpose(1, 2).flatten(2)
        return layout.ungroup(x)

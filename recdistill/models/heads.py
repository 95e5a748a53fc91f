"""Heads on a backbone: one tower, or two that share the backbone and nothing else (Rec-Distill, 2605.29755)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, cast

import torch
from torch import Tensor, nn

from recdistill.data.batch.batch import Batch
from recdistill.models.backbones.sequence import SequenceBackbone, TokenMixerModel
from recdistill.models.layers.blocks import MLP, Dropout, width_of
from recdistill.models.layers.experts import ReLUExperts
from recdistill.models.widths import Dim, NetworkWidths, joined, linear, under, widths_of

__all__ = ["TeacherHiddenReader", "TowerLayout", "Towers", "predicts_apart"]

TowerLayout = Literal["single", "decoupled"]


def _tower(inputs: int, hidden: Sequence[int], tasks: int) -> nn.Module:
    body = MLP(inputs, hidden)
    return nn.Sequential(body, nn.Linear(body.output_width, tasks))


def _scaled(shared: Tensor, scale: float) -> Tensor:
    """Return `shared`, whose gradient is multiplied by `scale`."""
    return shared if scale == 1 else shared.detach() + scale * (shared - shared.detach())


class TeacherHiddenReader(nn.Module):
    """The teacher's hidden states [., hidden_width] of the user's earlier samples as a feature: the last one and their
    mean; starts at zero.
    """

    def __init__(self, hidden_width: int, output: int, hidden: int = 16) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(2 * hidden_width, hidden), nn.Linear(hidden, output)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(self, batch: Batch) -> Tensor:
        """Return [B, output]; zero for users without a state."""
        hidden, counts = batch.teacher_hidden, batch.teacher_hidden_counts
        newest = hidden[torch.arange(len(hidden), device=hidden.device), (counts - 1).clamp(min=0)]
        both = torch.cat([newest, hidden.sum(1) / counts.clamp(min=1)[:, None]], 1)
        added = torch.as_tensor(self.last(torch.relu(self.first(both)))) * (counts > 0)[:, None]
        return added.index_select(0, batch.history.of.to(added.device))


def predicts_apart(backbone: nn.Module) -> bool:
    """Return whether a backbone learns by another pass than it predicts by, so that a step makes both."""
    return any(
        isinstance(part, ReLUExperts) or (isinstance(part, Dropout) and bool(part.rate)) for part in backbone.modules()
    )


class Towers(nn.Module):
    """A backbone with its heads: a backbone is any module that turns a `Batch` into [B, output_width].

    teacher_hidden: width of the teacher's hidden states, 0: none; regression: which tasks are one, none where it is
    empty. Further towers are drawn last, so a raw and a
    distilled student of one torch seed start alike in all they share. Where the backbone is a TokenMixerModel with
    `auxiliary`, each state between its blocks has a linear head, for `between` alone: it is never served. UserError
    when neither the backbone nor the caller gives the backbone's output width.
    """

    def __init__(
        self,
        backbone: nn.Module,
        tasks: int,
        layout: TowerLayout = "single",
        hidden: Sequence[int] = (16,),
        output_width: int | None = None,
        adapted: bool = False,
        teacher_hidden: int = 0,
        regression: Sequence[bool] = (),
    ) -> None:
        super().__init__()
        self.regression = torch.tensor(regression) if any(regression) else None  # stays with the losses, on the host
        self.output_width = width = width_of(backbone, output_width)
        self.backbone = backbone
        self.routed = [part for part in backbone.modules() if isinstance(part, ReLUExperts)]
        self.predicts_apart = predicts_apart(backbone)
        self.main = _tower(width, hidden, tasks)
        self.aux = _tower(width, hidden, tasks) if layout == "decoupled" else None
        self.adapted = _tower(width, hidden, tasks) if adapted else None
        self.reader = TeacherHiddenReader(teacher_hidden, width) if teacher_hidden else None
        mixer = backbone if isinstance(backbone, TokenMixerModel) else None
        self.auxiliary = mixer.auxiliary if mixer else 0.0
        self.extra = (
            nn.ModuleList(nn.Linear(mixer.body.width, tasks) for _ in range(mixer.body.between))
            if mixer
            else nn.ModuleList()
        )

    def widths(self) -> NetworkWidths:
        """Return the backbone's widths, with what the heads read; those of the heads themselves do not change."""
        backbone, own = widths_of(self.backbone), dict[str, tuple[Dim, ...]]()
        for name in ("main", "aux", "adapted"):
            tower = getattr(self, name)
            if tower is not None:
                first = under(f"{name}.0.0", linear([tower[0].output_width], backbone.outputs))
                own |= first if len(tower[0]) else under(f"{name}.1", linear([tower[1].out_features], backbone.outputs))
        if self.reader is not None:
            own |= under("reader.last", linear(backbone.outputs, [self.reader.first.out_features]))
        return joined({"backbone": backbone}, (), own)

    def shared(self, batch: Batch) -> Tensor:
        """Return the towers' input, [B, output_width]: the backbone's output, plus what the teacher's
        earlier hidden states add.
        """
        batch = batch.to(next(self.main.parameters()).device)
        hidden = torch.as_tensor(self.backbone(batch))
        return hidden if self.reader is None else hidden + self.reader(batch)

    def heads(self, shared: Tensor, scale: float = 1.0) -> tuple[Tensor, Tensor | None]:
        """Return (main, auxiliary or None), logits [B, K] on the host, of the backbone's output [B, output_width].

        scale: what the auxiliary tower's gradient is multiplied by on its way into the backbone (ExFM, gradient
        scaling).
        """
        return self.main(shared).cpu(), None if self.aux is None else self.aux(_scaled(shared, scale)).cpu()

    def adapted_head(self, shared: Tensor, scale: float = 1.0) -> Tensor:
        """Return the logits [B, K] of the tower that learns from the student adapter (ExFM, equation 7)."""
        return (
            torch.as_tensor(self.adapted(_scaled(shared, scale)).cpu()) if self.adapted is not None else torch.zeros(0)
        )

    def between(self) -> list[Tensor]:
        """Return the logits [B, K], on the host, of the states between the backbone's blocks as of the last `shared`
        that learned, once.

        The labels' loss on them is added to the towers' with weight `auxiliary` (TokenMixer-Large, 2602.06563); none
        where that is 0.
        """
        if not isinstance(self.backbone, TokenMixerModel):
            return []
        return [
            torch.as_tensor(head(state)).cpu() for head, state in zip(self.extra, self.backbone.taken(), strict=False)
        ]

    def lies_at(self, first: int, of: int) -> None:
        """Let `routed` know where the rows of the next `shared` lie in a step of several ranks; see ReLUExperts."""
        for part in self.routed:
            part.first, part.of = first, of

    def penalty(self) -> Tensor:
        """Return what the regularisers of `routed` add to the loss of the last `shared` that learned, a number on the
        host, once. See ReLUExperts.
        """
        found = [part.taken() for part in self.routed]
        return torch.stack([torch.zeros(()), *(one.cpu() for one in found if one is not None)]).sum()

    def recorded(self, shared: Tensor) -> Tensor:
        """Return the hidden state to record of the last `shared`, [B, W], on the host: what came out of it, or the
        state of the block that the backbone keeps.
        """
        kept = isinstance(self.backbone, SequenceBackbone) and self.backbone.block
        return (cast(SequenceBackbone, self.backbone).recorded if kept else shared).cpu()

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor | None]:
        """Return (main, auxiliary or None), raw logits [B, K]."""
        return self.heads(self.shared(batch))

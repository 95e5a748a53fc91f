"""Heads on a backbone: one tower, or two that share the backbone and nothing else (Rec-Distill, 2605.29755)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from recdistill.data.batch import Batch
from recdistill.errors import UserError
from recdistill.models.blocks import MLP

__all__ = ["Layout", "Towers"]

Layout = Literal["single", "decoupled"]


def _tower(inputs: int, hidden: Sequence[int], tasks: int) -> nn.Module:
    body = MLP(inputs, hidden)
    return nn.Sequential(body, nn.Linear(body.output_width, tasks))


def _scaled(shared: Tensor, scale: float) -> Tensor:
    """Return `shared`, whose gradient is multiplied by `scale`."""
    return shared if scale == 1 else shared.detach() + scale * (shared - shared.detach())


def _width(backbone: nn.Module, given: int | None) -> int:
    width = given if given is not None else getattr(backbone, "output_width", None)
    if not isinstance(width, int) or width < 1:
        raise UserError(f"{type(backbone).__name__}: unknown output width; give the class an integer `output_width` or "
                        "pass output_width=... to Towers")  # fmt: skip
    return width


class Towers(nn.Module):
    """A backbone with its heads: a backbone is any module that turns a `Batch` into [B, output_width].

    Further towers are drawn last, so a raw and a distilled student of one torch seed start alike in all they share.
    UserError when neither the backbone nor the caller says how wide the backbone's output is.
    """

    def __init__(self, backbone: nn.Module, tasks: int, layout: Layout = "single", hidden: Sequence[int] = (16,),
                 output_width: int | None = None, adapted: bool = False) -> None:  # fmt: skip
        super().__init__()
        width = _width(backbone, output_width)
        self.backbone = backbone
        self.main = _tower(width, hidden, tasks)
        self.aux = _tower(width, hidden, tasks) if layout == "decoupled" else None
        self.adapted = _tower(width, hidden, tasks) if adapted else None

    def heads(self, shared: Tensor, scale: float = 1.0) -> tuple[Tensor, Tensor | None]:
        """Return (main, auxiliary or None), logits [B, K], of the backbone's output [B, output_width].

        scale: what the auxiliary tower's gradient is multiplied by on its way into the backbone (ExFM, gradient scaling).
        """
        return self.main(shared), None if self.aux is None else self.aux(_scaled(shared, scale))

    def adapted_head(self, shared: Tensor, scale: float = 1.0) -> Tensor:
        """Return the logits [B, K] of the tower that hears the student adapter (ExFM, equation 7)."""
        return torch.as_tensor(self.adapted(_scaled(shared, scale))) if self.adapted is not None else shared.new_zeros(0)

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor | None]:
        """Return (main, auxiliary or None), raw logits [B, K]."""
        return self.heads(self.backbone(batch))

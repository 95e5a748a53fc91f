"""Heads on a backbone: one tower, or two that share the backbone and nothing else (Rec-Distill, 2605.29755)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from torch import Tensor, nn

from recdistill.data.batch import Batch
from recdistill.errors import UserError
from recdistill.models.blocks import MLP

__all__ = ["Layout", "Towers"]

Layout = Literal["single", "decoupled"]


def _tower(inputs: int, hidden: Sequence[int], tasks: int) -> nn.Module:
    body = MLP(inputs, hidden)
    return nn.Sequential(body, nn.Linear(body.output_width, tasks))


def _width(backbone: nn.Module, given: int | None) -> int:
    width = given if given is not None else getattr(backbone, "output_width", None)
    if not isinstance(width, int) or width < 1:
        raise UserError(f"{type(backbone).__name__}: unknown output width; give the class an integer `output_width` or "
                        "pass output_width=... to Towers")  # fmt: skip
    return width


class Towers(nn.Module):
    """A backbone with its heads: a backbone is any module that turns a `Batch` into [B, output_width].

    The auxiliary tower is drawn last, so a raw and a distilled student of one torch seed start alike in all they share.
    UserError when neither the backbone nor the caller says how wide the backbone's output is.
    """

    def __init__(self, backbone: nn.Module, tasks: int, layout: Layout = "single", hidden: Sequence[int] = (16,),
                 output_width: int | None = None) -> None:  # fmt: skip
        super().__init__()
        width = _width(backbone, output_width)
        self.backbone = backbone
        self.main = _tower(width, hidden, tasks)
        self.aux = _tower(width, hidden, tasks) if layout == "decoupled" else None

    def heads(self, shared: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return (main, auxiliary or None), logits [B, K], of the backbone's output [B, output_width]."""
        return self.main(shared), None if self.aux is None else self.aux(shared)

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor | None]:
        """Return (main, auxiliary or None), raw logits [B, K]."""
        return self.heads(self.backbone(batch))

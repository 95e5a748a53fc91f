"""The ranks that share each layer of a token mixer, token by token: what they send one another.

N ranks of a group, T tokens of width D, of which a rank has T / N; B rows of a rank's own, R: those of all N ranks,
each rank's filled up with zeros to as many as the fullest has. Sums of a layer's gradients over the group's rows come
about by themselves, as what comes back to a rank is of all of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn import functional

__all__ = ["ONE", "MixesTokens", "TokenRanks", "of_rank"]


@dataclass(frozen=True)
class TokenRanks:
    """size: N; group: the process group of these ranks, None for a rank that has all tokens."""

    size: int = 1
    group: dist.ProcessGroup | None = None

    def of_tokens(self, x: Tensor) -> Tensor:
        """Return [T / N, R, D], this rank's tokens of all rows, of its own rows' tokens [T, B, D]."""
        if self.size == 1:
            return x
        tokens, rows, width = x.shape
        padded = functional.pad(x, (0, 0, 0, self._most(rows, x.device) - rows))
        found = self._exchanged(padded.reshape(self.size, tokens // self.size, -1, width))
        return found.transpose(0, 1).reshape(tokens // self.size, -1, width)

    def of_rows(self, x: Tensor, rows: int) -> Tensor:
        """Return the tokens [T, B, D] of this rank's B rows, of what `of_tokens` gave, [T / N, R, D]."""
        if self.size == 1:
            return x
        tokens, _, width = x.shape
        found = self._exchanged(x.view(tokens, self.size, -1, width).transpose(0, 1))
        return found.reshape(tokens * self.size, -1, width)[:, :rows]

    def mixed(self, x: Tensor, parts: int) -> Tensor:
        """Return [P / N, R, T * D / P] of [T / N, R, D]: the p-th of `parts` parts of every token, side by side.

        Of its own result, with T parts, it gives the tokens again.
        """
        tokens, rows, width = x.shape
        cut = x.view(tokens, rows, self.size, parts // self.size, width // parts).permute(2, 3, 1, 0, 4)
        return self._exchanged(cut).permute(1, 2, 0, 3, 4).reshape(parts // self.size, rows, -1)

    def _most(self, rows: int, device: torch.device) -> int:
        """Return the rows of the rank that has most."""
        most = torch.tensor([rows], device=device)
        dist.all_reduce(most, op=dist.ReduceOp.MAX, group=self.group)
        return int(most)

    def _exchanged(self, x: Tensor) -> Tensor:
        """Return [N, ...], what each rank sent to this one, of [N, ...], what goes to each."""
        from torch.distributed._functional_collectives import all_to_all_single_autograd, wait_tensor

        if self.group is None:
            return x
        sent = all_to_all_single_autograd(x.contiguous(), None, None, self.group)
        return torch.as_tensor(wait_tensor(sent))  # type: ignore[no-untyped-call]


ONE = TokenRanks()


def of_rank(weight: Tensor) -> Tensor:
    """Return what this rank holds of a weight that lies over ranks by tokens, or a weight that does not."""
    to_local = getattr(weight, "to_local", None)  # DTensor's, whose import takes a third of a second
    return weight if to_local is None else torch.as_tensor(to_local())


@runtime_checkable
class MixesTokens(Protocol):
    """A part whose layers may lie over ranks by tokens; over: these ranks."""

    over: TokenRanks

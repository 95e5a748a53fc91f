"""Listwise transfer: the teacher's order among all that it scored for one user at one time, candidates that were not
shown included.
"""

from __future__ import annotations

import torch
from torch import Tensor

from recdistill.distill.losses import rows_share

__all__ = ["listwise_loss"]

ABSENT = -1e9  # the logit of a row that is in no list


def listwise_loss(student: Tensor, teacher: Tensor, group: Tensor, rows: int | Tensor | None = None) -> Tensor:
    """Return the sum over lists of CE(softmax(t), softmax(z)), per row and task (ListNet: Cao et al., ICML 2007,
    equation 5).

    Logits [B, K]; group: int64 [B], the list of each row; rows: see `Supervision`; a weight is of a row's own term.
    Rows whose signal is missing (NaN) are in no list. A constant added to the logits of a list, such as what sampling
    does, changes nothing.
    """
    known = ~torch.isnan(teacher)
    t, z = (torch.where(known, logits, ABSENT) for logits in (torch.nan_to_num(teacher), student))
    share = (t - _log_sum(t.detach(), group)).exp() * known
    terms = share * (_log_sum(z, group) - z)
    if isinstance(rows, Tensor):
        return (terms * rows_share(known, rows)).sum()
    return terms.sum() / max((len(known) if rows is None else rows) * known.shape[1], 1)


def _log_sum(logits: Tensor, group: Tensor) -> Tensor:
    """Return [B, K]: for each row log sum exp over its list."""
    lists = int(group.max()) + 1 if len(group) else 0
    at = group[:, None].expand_as(logits)
    top = torch.full((lists, logits.shape[1]), ABSENT, dtype=logits.dtype).scatter_reduce(
        0, at, logits.detach(), "amax"
    )
    total = torch.zeros_like(top).index_add(0, group, (logits - top[group]).exp())
    return (total.log() + top)[group]

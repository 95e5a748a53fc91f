"""Sampling multiplies the odds; this takes it back, in log space.

With keep rates k+ and k- the log's odds are k+/k- times the true ones: true log-odds = z - log(k+ / k-).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor

from recdistill.errors import UserError

__all__ = [
    "KeepRates",
    "PaperCorrection",
    "PaperSettings",
    "as_sampled",
    "paper_log_odds",
    "paper_space",
    "true_log_odds",
]

Reading = Literal["outside", "inside"]


@dataclass(frozen=True)
class KeepRates:
    """Probabilities with which positive and negative samples survived, each in (0, 1]; UserError otherwise."""

    positive: float = 1.0
    negative: float = 1.0

    def __post_init__(self) -> None:
        if not (0 < self.positive <= 1 and 0 < self.negative <= 1):
            raise UserError(f"keep rates must be in (0, 1]; got {self.positive} and {self.negative}")

    @property
    def log_odds_offset(self) -> float:
        """Return log(k+ / k-), what sampling added to the log-odds."""
        return math.log(self.positive / self.negative)

    def __mul__(self, other: KeepRates) -> KeepRates:
        """Return the rates of one sampling after the other."""
        return KeepRates(self.positive * other.positive, self.negative * other.negative)


def true_log_odds(logit: Tensor, rates: KeepRates | Sequence[KeepRates]) -> Tensor:
    """Return z - log(k+ / k-), the log-odds before sampling, in the shape of `logit`; a sequence has rates
    per task [.., K].
    """
    shifts = [of_task.log_odds_offset for of_task in ([rates] if isinstance(rates, KeepRates) else rates)]
    return logit - torch.tensor(shifts, dtype=logit.dtype) if any(shifts) else logit


def as_sampled(
    logit: Tensor, before: KeepRates | Sequence[KeepRates], after: KeepRates | Sequence[KeepRates]
) -> Tensor:
    """Return the logit of a model that learned under the rates `before` as one under `after` would have it:
    z - log(k+ / k-) + log(k'+ / k'-); rates as in `true_log_odds`.
    """
    return -true_log_odds(-true_log_odds(logit, before), after)


@dataclass(frozen=True)
class PaperCorrection:
    """Rec-Distill's f(z) = 1 / (1 + (r_s / p_X)(e^-z + 1 - r_+) + b_s), or with b_s inside the parenthesis.

    Raises UserError for parameters that would let f leave (0, 1): ratio r_s / p_X not positive, or
    (r_s / p_X)(1 - r_+) + b_s (the odds against at z = infinity, outside reading) negative, or any not finite.
    """

    negative_ratio: float = 1.0  # r_s
    positive_retention: float = 1.0  # p_X
    nominal_retention: float = 1.0  # r_+
    bias: float = 0.0  # b_s
    reading: Reading = "outside"

    def __post_init__(self) -> None:
        if not (0 < self.negative_ratio < math.inf and 0 < self.positive_retention < math.inf):
            raise UserError(f"r_s and p_X must be positive; got {self.negative_ratio} and {self.positive_retention}")
        if not 0 <= self.floor < math.inf:  # refuses NaN too
            raise UserError(f"r_+ = {self.nominal_retention} and b_s = {self.bias} let the probability leave (0, 1)")

    @property
    def ratio(self) -> float:
        """Return r_s / p_X."""
        return self.negative_ratio / self.positive_retention

    @property
    def floor(self) -> float:
        """Return the odds against at z = infinity: (r_s / p_X)(1 - r_+) + b_s, b_s read outside."""
        outside = self.bias if self.reading == "outside" else self.bias * self.ratio
        return self.ratio * (1 - self.nominal_retention) + outside


def paper_log_odds(logit: Tensor, correction: PaperCorrection) -> Tensor:
    """Return log f(z) / (1 - f(z)) = -log((r_s / p_X) e^-z + floor), stable for every z."""
    against = math.log(correction.ratio) - logit
    if correction.floor == 0:
        return -against
    return -torch.logaddexp(against, torch.full_like(logit, math.log(correction.floor)))


class PaperSettings(Protocol):
    """What f_S has besides the keep rates: b_s, r_+ and where b_s stands."""

    @property
    def bias(self) -> float: ...
    @property
    def nominal_retention(self) -> float: ...
    @property
    def reading(self) -> Reading: ...


def paper_space(logit: Tensor, rates: KeepRates | Sequence[KeepRates], settings: PaperSettings) -> Tensor:
    """Return the log-odds of f_S(z) of logits [B, K] (Rec-Distill, equations 13 and 14), r_s / p_X being k+ / k- of
    `rates`, one for all tasks or one per task; with r_+ = 1 and b_s = 0 it is `true_log_odds`.
    """
    each = [rates] if isinstance(rates, KeepRates) else rates
    ratios = [math.exp(one.log_odds_offset) for one in each]
    found = [PaperCorrection(r, 1.0, settings.nominal_retention, settings.bias, settings.reading) for r in ratios]
    if len(found) == 1:
        return paper_log_odds(logit, found[0])
    return torch.stack([paper_log_odds(logit[..., k], one) for k, one in enumerate(found)], -1)

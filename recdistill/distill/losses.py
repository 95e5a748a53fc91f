"""Losses between logits. NaN labels are not known yet, NaN signals are missing; both count nothing.

Notation: z student logit, t teacher logit, s the sigmoid, tau the temperature. All shapes are [B, K].

Where rows have weights, a batch's loss is the weighted mean: the sum over rows of weight x loss over the sum of the
weights. So only how rows compare matters: twice the weights are the same step, at the same learning rate.

Of a task that is a regression "logits" are the values as the model learns them (see `Regression`): labels and signals
alike count by Huber's loss, and nothing of sampling, temperature or scaled labels is for them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor
from torch.nn import functional

from recdistill.distill.debias import KeepRates, PaperSettings, paper_space, true_log_odds

__all__ = [
    "Loss",
    "Settings",
    "Shares",
    "Supervision",
    "TINY",
    "WHOLE",
    "bernoulli_kl",
    "label_loss",
    "importance_weight",
    "objective",
    "rows_share",
    "scaled_label",
    "share_with_signal",
    "signal_loss",
]

Loss = Literal["cross-entropy", "kl", "mse"]
TINY = 1e-30  # the least weight of a batch; one without any has a loss of 0
Rates = KeepRates | Sequence[KeepRates]  # of all tasks alike, or per task


class Settings(Protocol):
    """What `objective` reads of an experiment's `distill` section."""

    @property
    def loss(self) -> Loss: ...
    @property
    def temperature(self) -> float: ...
    @property
    def space(self) -> Literal["posterior", "student", "paper"]: ...
    @property
    def paper(self) -> PaperSettings: ...
    @property
    def towers(self) -> Literal["decoupled", "single", "signal-only"]: ...
    @property
    def label_scale(self) -> float: ...


def _known(values: Tensor, rows: int | Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Return (values with 0 for NaN, the share that each has in a mean over those that are not NaN).

    rows: see `Supervision`; of their number nothing depends.
    """
    known = ~torch.isnan(values)
    if isinstance(rows, Tensor):
        mass = known * rows
        return torch.nan_to_num(values), mass / mass.sum().clamp(min=TINY)
    return torch.nan_to_num(values), known / known.sum().clamp(min=1)


def rows_share(known: Tensor, rows: int | Tensor | None) -> Tensor:
    """Return float32 [B, K]: the share of each signal that is `known` in a mean over all rows and tasks, 0 where it is
    not; rows: see `Supervision`.
    """
    if isinstance(rows, Tensor):
        return known * rows / (rows.sum() * known.shape[-1]).clamp(min=TINY)
    return known / max((len(known) if rows is None else rows) * known.shape[-1], 1)


def _cross_entropy(logits: Tensor, target: Tensor, share: Tensor, label_weight: Tensor | None = None) -> Tensor:
    """Return the sum of share (w softplus(z) - target z), w the label's weight: CE where it is 1."""
    whole = functional.softplus(logits)
    return (((whole if label_weight is None else label_weight * whole) - target * logits) * share).sum()


def importance_weight(logits: Tensor, labels: Tensor, late: float | Tensor) -> Tensor:
    """Return importance weights [B, K] for labels of which some positives come late, and were negatives before.

    A share `late` (of all tasks, or [K]) of the positives is learned twice, as a negative and then as a positive. With
    f = s(z) the weights 1 + late f of positives and (1 - f) (1 + late f) / (1 - f + late f) of negatives make the
    expected gradient that of the final labels; for late = 1 they are those of the fake negative weighted loss (Ktena et
    al., RecSys 2019).
    """
    f = torch.sigmoid(logits)
    return (1 + late * f) * torch.where(labels > 0, torch.ones_like(f), (1 - f) / (1 - f + late * f).clamp(min=1e-6))


def label_loss(logits: Tensor, labels: Tensor, rows: int | Tensor | None = None) -> Tensor:
    """Return the mean of CE(y, s(z)) = softplus(z) - y z over known labels; 0 when none is known. rows: see
    `Supervision`.
    """
    return _cross_entropy(logits, *_known(labels, rows))


def bernoulli_kl(teacher: Tensor, student: Tensor) -> Tensor:
    """Return KL(s(t) || s(z)) = p (t - z) + softplus(z) - softplus(t), p = s(t), elementwise, never negative."""
    p = torch.sigmoid(teacher)
    return (p * (teacher - student) + functional.softplus(student) - functional.softplus(teacher)).clamp(min=0)


def scaled_label(teacher: Tensor, scale: float) -> Tensor:
    """Return the log-odds of min(scale * s(t), 1), finite (ExFM, equation 4): a target that is no
    probability any more.
    """
    target = (functional.logsigmoid(teacher) + math.log(scale)).clamp(max=-1e-6)
    return target - torch.log(-torch.expm1(target))


def signal_loss(
    kind: Loss,
    student: Tensor,
    teacher: Tensor,
    temperature: float = 1.0,
    weights: Tensor | None = None,
    rows: int | Tensor | None = None,
) -> Tensor:
    """Return the mean over `rows` (see `Supervision`) and tasks, 0 where the signal is missing, each times its task's
    entry of `weights` [K], of

    cross-entropy: tau^2 [softplus(z / tau) - s(t / tau) z / tau]      (Rec-Distill, equation 8)
    kl:            tau^2 KL(s(t / tau) || s(z / tau))                  (equation 2; same gradient as cross-entropy)
    mse:           (s(z) - s(t))^2                                     (equation 9; its gradient dies at saturation)
    """
    target, known = torch.nan_to_num(teacher), ~torch.isnan(teacher)
    share = rows_share(known, rows)  # what one signal counts does not depend on how many others are missing
    share = share if weights is None else share * weights
    if kind == "mse":
        return ((torch.sigmoid(student) - torch.sigmoid(target)).square() * share).sum()
    z, t = (student, target) if temperature == 1 else (student / temperature, target / temperature)
    if kind == "kl":
        return temperature**2 * (bernoulli_kl(t, z) * share).sum()
    return temperature**2 * _cross_entropy(z, torch.sigmoid(t), share)


@dataclass(frozen=True)
class Shares:
    """What a batch's mean losses by labels and by signals count in the step's, where several ranks share one.

    first, of: which of the step's samples the batch's first one is, and how many those are, None where all are here;
    equal for a batch that has none of them.
    """

    labels: float = 1.0
    signals: float = 1.0
    first: int = 0
    of: int | None = None

    @property
    def none(self) -> bool:
        """Return whether the batch has none of the step's samples."""
        return self.first == self.of


WHOLE = Shares()


@dataclass(frozen=True)
class Supervision:
    """What a step learns from: labels and signals, [B, K] each, and the keep rates that student and teacher learned
    under.

    label_weight: [B, K], of each label's softplus(z), where it is not 1: w where labels are w y is importance w; 0 for
    a label of 1 is CE(1, s(z)) - CE(0, s(z)), which takes a negative back that was learned before and puts a positive
    in its place. rows: how many are learned from, where those that are not have NaN, all by default; or float32 [B, 1],
    what each row counts, 0 for those that are not learned from. regression: bool [K], which tasks are;
    None without any. shares: of the rows in a step of several ranks.
    """

    labels: Tensor
    signals: Tensor
    own: Rates = KeepRates()
    teacher: Rates = KeepRates()
    label_weight: Tensor | None = None
    rows: int | Tensor | None = None
    regression: Tensor | None = None
    shares: Shares = WHOLE


def _targets(head: Tensor, given: Supervision, settings: Settings) -> tuple[Tensor, Tensor]:
    """Return (student, teacher) log-odds in the space where they are compared.

    posterior: both before sampling; student: both through the student's correction, the teacher's raw logit too; paper:
    likewise, with Rec-Distill's own correction f_S.
    """
    if settings.space == "paper":
        return tuple(paper_space(logit, given.own, settings.paper) for logit in (head, given.signals))  # type: ignore[return-value]
    rates = given.teacher if settings.space == "posterior" else given.own
    return true_log_odds(head, given.own), true_log_odds(given.signals, rates)


def objective(
    main: Tensor, aux: Tensor | None, given: Supervision, settings: Settings | None, weight: float | Tensor
) -> Tensor:
    """Return the loss of a step; main, aux: logits [B, K] of the towers; weight: alpha, of all tasks or float32 [K].

    decoupled: CE(y, s(z_M)) + CE(y, s(z_A)) + alpha D(p_T, z_A)    (Rec-Distill, equations 6 and 7)
    signal-only: CE(y, s(z_M)) + alpha D(p_T, z_A)                   (ExFM, equation 5)
    single:    CE(y, s(z)) + alpha D(p_T, z)
    Of a regression Huber's loss takes the place of CE and D. Without `settings` or signals labels alone count. The main
    tower of two gets exactly zero gradient from the signal.
    """
    total = _by_labels(main, given)
    if aux is not None and (settings is None or settings.towers != "signal-only"):
        total = total + _by_labels(aux, given)
    total = total * given.shares.labels
    if settings is None or (isinstance(weight, float) and not weight):
        return total
    head, by_task = main if aux is None else aux, weight if isinstance(weight, Tensor) else None
    loss = _by_signals(head, given, settings, by_task) * given.shares.signals
    return total + (loss if isinstance(weight, Tensor) else weight * loss)


def _by_labels(head: Tensor, given: Supervision) -> Tensor:
    """Return the labels' loss on a tower: cross-entropy, of a regression Huber's."""
    labels, share = _known(given.labels, given.rows)
    if given.regression is None:
        return _cross_entropy(head, labels, share, given.label_weight)
    outcomes = _cross_entropy(head, labels.masked_fill(given.regression, 0), share * ~given.regression)
    return outcomes + (_huber(head, labels) * share * given.regression).sum()


def _by_signals(head: Tensor, given: Supervision, settings: Settings, weights: Tensor | None) -> Tensor:
    """Return the signals' loss on a tower; weights: [K] by task."""
    student, target = _targets(head, given, settings)
    target = target if settings.label_scale == 1 else scaled_label(target, settings.label_scale)
    if given.regression is None:
        return signal_loss(settings.loss, student, target, settings.temperature, weights, given.rows)
    target = target.masked_fill(given.regression, math.nan)
    outcomes = signal_loss(settings.loss, student, target, settings.temperature, weights, given.rows)
    signals, known = torch.nan_to_num(given.signals), ~torch.isnan(given.signals) & given.regression
    share = rows_share(known, given.rows)
    return outcomes + (_huber(head, signals) * (share if weights is None else share * weights)).sum()


def _huber(values: Tensor, target: Tensor) -> Tensor:
    """Return Huber's loss elementwise: e^2 / 2 of an error e up to 1, |e| - 1/2 beyond."""
    return functional.huber_loss(values, target, reduction="none")


def share_with_signal(signals: Tensor) -> float:
    """Return the share of rows with a signal for any task."""
    return 1 - int(torch.isnan(signals).all(1).sum()) / max(len(signals), 1)

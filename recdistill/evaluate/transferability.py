"""Transferability with its interval: eta = (P_distilled - P_raw) / (P_teacher - P_raw), over users and seeds.

A replicate draws users with replacement; every metric is a ratio of sums over users, so all replicates of all models
are one matrix product:
  GAUC  exactly: sum of AUC x rows over groups / sum of rows;
  NE    exactly: sum of log-loss / (rows x entropy of the replicate's base rate);
  AUC   to first order: mean placement of the drawn positives + that of the drawn negatives - AUC (Hajek projection).
        What it drops is the product of two users' deviations, of order 1 / users.

Seeds stay paired: raw and distilled of one seed deviate together. Resampling a handful of seeds gives too narrow
intervals (a 95 % interval then covers 51 % of the time with 2 seeds, 75 % with 3, 84 % with 5), so a replicate draws
the mean over seeds from its t distribution with seeds - 1 degrees of freedom instead, which covers 95 %
(Gaussian seeds). With 2 seeds that is a factor of 12.7, which hides gains that nobody would doubt: where a gain is
beyond the noise of users and beyond twice the seeds' standard deviation, and only their number keeps it from being
shown, the answer is to add seeds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from recdistill.errors import UserError
from recdistill.evaluate import metrics
from recdistill.evaluate.areas import masses
from recdistill.evaluate.values import value_replicates
from recdistill.typing import Array

__all__ = [
    "Draws",
    "ScoredSamples",
    "EtaEstimate",
    "bootstrap",
    "bootstrap_gauc",
    "draw_all",
    "estimate_of",
    "gauc_replicates",
    "over_seeds",
    "replicates_of",
    "transferability",
    "user_weights",
]

ENOUGH_SEEDS = 5  # from so many on, a gain that the interval does not show is called noise
SPARSE = 100  # codes to a row, above which groups are numbered anew
BUNDLES = 10_000  # more users than this are drawn in random bundles: the error of the error is 1 / sqrt(2 x bundles)


@dataclass(frozen=True)
class ScoredSamples:
    """The scored rows: label float [N] from 0 to 1, user int codes [N] from 0, group int [N], each within one user.

    weight: float64 [N], what each row counts; None where all count alike. regression: whether labels and predictions
    are values in one unit; then groups do not count.
    """

    label: Array
    user: Array
    group: Array
    weight: Array | None = None
    regression: bool = False

    @property
    def users(self) -> int:
        """Return how many codes users have; not all of them need to have a row here, see `where`."""
        return int(self.user.max()) + 1 if len(self.user) else 0

    @property
    def users_here(self) -> int:
        """Return the number of users that have a row here."""
        return int(np.count_nonzero(np.bincount(self.user)))

    def where(self, part: slice | Array) -> ScoredSamples:
        """Return the rows in `part`, a slice or a mask [N]; users and groups keep their codes."""
        weight = None if self.weight is None else self.weight[part]
        return ScoredSamples(self.label[part], self.user[part], self.group[part], weight, self.regression)


@dataclass(frozen=True)
class EtaEstimate:
    """Eta on one metric, larger is better (NE is signed so). A withheld eta and its bounds are None, and
    `why` is the reason; it also says where seeds are too few for what eta seems to show.

    teacher_gain is P_teacher - P_raw and gain P_distilled - P_raw (or less a control's), means over seeds, each with
    its interval.
    """

    eta: float | None
    low: float | None
    high: float | None
    teacher_gain: float
    teacher_gain_low: float
    teacher_gain_high: float
    gain: float
    gain_low: float
    gain_high: float
    why: str | None


def user_weights(users: int, replicates: int, draw: np.random.Generator) -> tuple[Array, Array]:
    """Return (int64 [users] the bundle each user is drawn in, float64 [1 + replicates, bundles] how often it is drawn).

    The first row is all ones, the sample itself. Up to BUNDLES users, every user is a bundle of its own.
    """
    bundles = min(users, BUNDLES)
    bundle = np.arange(users) if users == bundles else draw.permutation(users) % bundles
    picked = draw.integers(0, max(bundles, 1), (replicates, bundles)) + bundles * np.arange(replicates)[:, None]
    times = np.bincount(picked.ravel(), minlength=replicates * bundles).reshape(replicates, bundles)
    return bundle, np.vstack([np.ones(bundles), times])


def _owners(samples: ScoredSamples, of: Array) -> Array:
    """Return the users of the groups `of`; UserError when a group spans users."""
    group = samples.group
    if group.max(initial=0) >= SPARSE * len(group):
        codes, group = np.unique(group, return_inverse=True)
        of = np.searchsorted(codes, of)
    owner = np.zeros(int(group.max(initial=-1)) + 1, np.int64)
    owner[group] = samples.user
    strangers = np.flatnonzero(owner[group] != samples.user)
    if len(strangers):
        raise UserError(
            f"transferability: group {samples.group[strangers[0]]} holds samples of several users, so users cannot be "
            "drawn one by one; group by user (evaluate.group: user)"
        )
    return np.asarray(owner[of])


def bootstrap(samples: ScoredSamples, logits: Sequence[Array], bundle: Array, weights: Array) -> dict[str, Array]:
    """Return per metric float64 [models, replicates], larger is better (minus NE), NaN where it is undefined; of a
    regression xauc, mae and rmse, the latter negative.

    logits: [N] of each model, of a regression its values; bundle and weights as `user_weights` returns them.
    """
    found = [replicates_of(samples, logit, bundle, weights) for logit in logits]
    return {name: np.stack([one[name] for one in found]) for name in found[0]}


def replicates_of(samples: ScoredSamples, logit: Array, bundle: Array, weights: Array) -> dict[str, Array]:
    """Return per metric float64 [replicates] of one model, see `bootstrap`."""
    bundles, at = weights.shape[1], bundle[samples.user]
    if samples.regression:
        found = value_replicates(samples.label, [logit], samples.weight, at, weights)
        return {name: values[0] for name, values in found.items()}
    pos, neg = masses(samples.label, samples.weight)

    def totals(values: Array) -> Array:
        return metrics.drawn_sums(weights, np.bincount(at, values, bundles))

    positives, negatives = totals(pos), totals(neg)
    with np.errstate(divide="ignore", invalid="ignore"):
        below, above = metrics.placements(samples.label, logit, samples.weight)
        placed = np.where(pos > 0, pos * below, 0.0)
        whole, of_positives = placed.sum() / pos.sum(), totals(placed)
        auc = of_positives / positives + totals(np.where(neg > 0, neg * above, 0.0)) / negatives - whole
        del pos, neg, below, above, placed  # of many million rows
        losses = metrics.log_losses(samples.label, logit)
        losses = losses if samples.weight is None else samples.weight * losses
        ne = metrics.ne_of_sums(totals(losses), positives + negatives, positives)
    return {"auc": auc, "gauc": gauc_replicates(samples, logit, bundle, weights), "ne": -ne}


def bootstrap_gauc(samples: ScoredSamples, logits: Sequence[Array], bundle: Array, weights: Array) -> Array:
    """Return GAUC alone as float64 [models, replicates]; see `bootstrap`. Users of `samples` may be some of all."""
    return np.stack([gauc_replicates(samples, logit, bundle, weights) for logit in logits])


def gauc_replicates(samples: ScoredSamples, logit: Array, bundle: Array, weights: Array) -> Array:
    """Return GAUC alone of one model as float64 [replicates]; see `bootstrap_gauc`."""
    group, area, size = metrics.gauc_parts(samples.label, logit, samples.group, samples.weight)
    of, bundles = bundle[_owners(samples, group)], weights.shape[1]
    above, rows = (metrics.drawn_sums(weights, np.bincount(of, values, bundles)) for values in (area * size, size))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(above / rows)


def _spread(replicates: int, seeds: int, draw: np.random.Generator) -> Array:
    """Return float64 [1 + replicates, seeds]: the weight of each seed's deviation from the mean in each replicate.

    With standard normal xi_s and a chi-square of S - 1 degrees of freedom, sum of xi_s (x_s - mean) / sqrt(S chi2) is
    the standard error of the mean times a t variable of S - 1 degrees. The first row, the sample itself, is zero.
    """
    if seeds < 2:
        return np.zeros((1 + replicates, seeds))
    scale = np.sqrt(seeds * draw.chisquare(seeds - 1, (replicates, 1)))
    return np.vstack([np.zeros(seeds), draw.standard_normal((replicates, seeds)) / scale])


def over_seeds(values: Array, spread: Array) -> Array:
    """Return float64 [1 + replicates], the mean over seeds as drawn, of values [seeds, 1 + replicates]."""
    mean = values.mean(0)
    return np.asarray(mean + ((values - mean) * spread.T).sum(0))


@dataclass(frozen=True)
class Draws:
    """One set of replicates, drawn once and used for every metric and slice.

    bundle and weights as `user_weights` returns them; teachers and students: the weight of each seed, see `_spread`.
    """

    bundle: Array
    weights: Array
    teachers: Array
    students: Array


def draw_all(users: int, teachers: int, seeds: int, replicates: int, seed: int = 0) -> Draws:
    """Return the draws for that many users, teachers and paired students; the same for the same `seed`."""
    draw = np.random.default_rng(seed)
    drawn = user_weights(users, replicates, draw)
    return Draws(*drawn, _spread(replicates, teachers, draw), _spread(replicates, seeds, draw))


def estimate_of(values: Array, drawn: Draws, users: int, confidence: float) -> EtaEstimate:
    """Return eta from one metric's values [teachers + raw + distilled (+ control), replicates]; users: that have rows
    in it.
    """
    teachers, seeds = drawn.teachers.shape[1], drawn.students.shape[1]
    taught, *students = np.split(values, range(teachers, len(values), seeds))
    raw, distilled, *control = (over_seeds(part, drawn.students) for part in students)
    teacher_gain = over_seeds(taught, drawn.teachers) - raw
    found = _estimate(teacher_gain, distilled - (control[0] if control else raw), seeds, users, confidence)
    if users < 2:
        return found
    return _with_advice(found, (taught, students[0], students[1], students[2] if control else students[0]), confidence)


def _with_advice(found: EtaEstimate, parts: Sequence[Array], confidence: float) -> EtaEstimate:
    """Return it with the advice to add seeds, where only their number keeps a gain from being shown.

    parts: values [models, 1 + replicates] of teachers, raw and distilled students, and of what those are compared with.
    """
    taught, raw, distilled, compared = parts
    if found.eta is None:
        what, gains, hidden = "the teacher's gain", taught.mean(0) - raw, found.teacher_gain > 0
    else:
        what, gains, hidden = "the gain", distilled - compared, (found.low or 0.0) <= 0 <= (found.high or 0.0)
    value = float(gains[:, 0].mean())
    if not hidden or len(raw) >= ENOUGH_SEEDS or not _clear(gains, confidence):
        return found
    return replace(
        found,
        why=f"{len(raw)} seeds are too few to prove {what} ({value:+.4f}), which is beyond the noise of users and the "
        "spread over seeds; add seeds (evaluate.seeds)",
    )


def _clear(gains: Array, confidence: float) -> bool:
    """Return whether gains [seeds, 1 + replicates] are beyond the noise of users, with the seeds as they are, and
    beyond twice the seeds' standard deviation.
    """
    if len(gains) < 2:
        return False
    low, high = _interval(gains.mean(0)[1:], confidence)
    return (low > 0 or high < 0) and abs(float(gains[:, 0].mean())) > 2 * float(gains[:, 0].std(ddof=1))


def transferability(
    samples: ScoredSamples,
    teacher: Sequence[Array],
    raw: Sequence[Array],
    distilled: Sequence[Array],
    drawn: Draws,
    confidence: float,
    control: Sequence[Array] = (),
) -> dict[str, EtaEstimate]:
    """Return eta by metric, see `bootstrap`, from logits [N]: raw and distilled students paired by seed.

    control: students paired likewise, of which eta is beyond: (P_distilled - P_control) / (P_teacher - P_raw).

    The spread over seeds of several teachers counts; that of a single one cannot be seen, so eta is about that
    teacher. Raises UserError for unpaired students and for groups that span users.
    """
    if len(raw) != len(distilled) or not raw or len(control) not in (0, len(raw)):
        raise UserError(f"transferability: {len(raw)} raw and {len(distilled)} distilled students; pair them by seed")
    found = bootstrap(samples, [*teacher, *raw, *distilled, *control], drawn.bundle, drawn.weights)
    return {name: estimate_of(values, drawn, samples.users_here, confidence) for name, values in found.items()}


def _interval(replicates: Array, confidence: float) -> tuple[float, float]:
    """Return the central interval of the finite or infinite replicates; NaN without any."""
    known = replicates[~np.isnan(replicates)]
    if not len(known):
        return float("nan"), float("nan")
    low, high = np.quantile(known, [(1 - confidence) / 2, (1 + confidence) / 2], method="inverted_cdf")
    return float(low), float(high)


def _estimate(teacher_gain: Array, gain: Array, seeds: int, users: int, confidence: float) -> EtaEstimate:
    low, high = _interval(teacher_gain[1:], confidence)
    rest = (float(teacher_gain[0]), low, high, float(gain[0]), *_interval(gain[1:], confidence))
    why = _withheld(float(teacher_gain[0]), low, high, seeds, users)
    if why:
        return EtaEstimate(None, None, None, *rest, why)
    # Where a replicate's teacher gains nothing, its eta is past every bound on the side of the student's own gain.
    past = np.where(np.isnan(gain), np.nan, np.copysign(np.inf, gain))
    eta = np.divide(gain, teacher_gain, out=past, where=teacher_gain > 0)
    eta_low, eta_high = _interval(eta[1:], confidence)
    if not np.isfinite([eta_low, eta_high]).all():
        return EtaEstimate(None, None, None, *rest, "eta has no bounded interval: the teacher's gain is too uncertain")
    return EtaEstimate(float(eta[0]), eta_low, eta_high, *rest, None)


def _withheld(gain: float, low: float, high: float, seeds: int, users: int) -> str | None:
    if not np.isfinite(gain):
        return "the metric is not defined on this window"
    if users < 2 or seeds < 2:
        return f"an interval needs at least 2 users and 2 seeds; there are {users} and {seeds}"
    if gain <= 0:
        return f"the teacher is not better than the raw student (gain {gain:+.4f})"
    if low <= 0:
        return f"the teacher's gain is inside the noise ({gain:+.4f}, interval {low:+.4f} to {high:+.4f})"
    return None

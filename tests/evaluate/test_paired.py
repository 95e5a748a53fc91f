"""A difference of two students is that of their scores, and its interval that of paired users and seeds."""

import numpy as np
import pytest

from recdistill.evaluate import metrics
from recdistill.evaluate.paired import difference
from recdistill.evaluate.transferability import ScoredSamples, draw_all


def samples(rows: int = 4000, users: int = 400) -> tuple[ScoredSamples, np.ndarray]:
    draw = np.random.default_rng(0)
    user, truth = np.sort(draw.integers(0, users, rows)), draw.normal(size=rows)
    label = (draw.random(rows) < 1 / (1 + np.exp(-truth))).astype(float)
    user = np.unique(user, return_inverse=True)[1]
    return ScoredSamples(label, user, user), truth


@pytest.mark.parametrize("metric", ["gauc", "auc", "ne"])
def test_the_difference_is_that_of_the_means_over_seeds(metric: str) -> None:
    rows, truth = samples()
    draw = np.random.default_rng(1)
    base = [(0.3 * truth + draw.normal(size=len(truth))).astype(np.float32) for _ in range(4)]
    better = [(one + 0.5 * truth).astype(np.float32) for one in base]
    drawn = draw_all(rows.users, 1, 4, 500)
    found = difference(rows, base, better, metric, drawn, 0.95)
    score = {
        "gauc": lambda z: metrics.gauc(rows.label, z, rows.group),
        "auc": lambda z: metrics.auc(rows.label, z),
        "ne": lambda z: -metrics.normalized_entropy(rows.label, z),
    }[metric]
    assert found is not None
    assert found.value == pytest.approx(np.mean([score(b) - score(a) for a, b in zip(base, better, strict=True)]))
    assert 0 < found.low < found.value < found.high
    same = difference(rows, base, base, metric, drawn, 0.95)
    assert same is not None and same.value == same.low == same.high == 0.0
    back = difference(rows, better, base, metric, drawn, 0.95)
    assert back is not None and (back.low, back.high) == pytest.approx((-found.high, -found.low))


def test_pairs_make_the_interval_narrow_and_what_is_undefined_is_none() -> None:
    rows, truth = samples()
    draw = np.random.default_rng(2)
    base = [(truth * scale + draw.normal(size=len(truth))).astype(np.float32) for scale in (0.1, 0.5, 1.0, 1.5, 2.0)]
    better = [(one + 0.2 * truth).astype(np.float32) for one in base]
    drawn = draw_all(rows.users, 1, 5, 500)
    paired, shuffled = (difference(rows, base, other, "gauc", drawn, 0.95) for other in (better, better[::-1]))
    assert paired is not None and shuffled is not None
    assert paired.high - paired.low < 0.5 * (shuffled.high - shuffled.low)
    positives = ScoredSamples(np.ones_like(rows.label), rows.user, rows.group)
    assert difference(positives, base, better, "gauc", drawn, 0.95) is None

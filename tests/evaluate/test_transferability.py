"""Transferability: replicates against brute force, intervals that cover, and answers withheld where there is none."""

import numpy as np
import pytest

from recdistill.errors import UserError
from recdistill.evaluate import metrics
from recdistill.evaluate import transferability as transfer
from recdistill.evaluate.transferability import (
    ScoredSamples,
    bootstrap,
    bootstrap_gauc,
    draw_all,
    estimate_of,
    user_weights,
)

BRUTE = {
    "auc": lambda y, z, g: metrics.auc(y, z),
    "gauc": metrics.gauc,
    "ne": lambda y, z, g: -metrics.normalized_entropy(y, z),
}


def transferability(samples, teacher, raw, distilled, *, replicates, confidence):
    """Return the answers with draws of their own; a lone teacher may come as an array."""
    teachers = [teacher] if isinstance(teacher, np.ndarray) else teacher
    drawn = draw_all(samples.users, len(teachers), len(raw), replicates)
    return transfer.transferability(samples, teachers, raw, distilled, drawn, confidence)


def world(users=150, rows=12, seed=0, spread=1.0):
    """Return (samples, true logits, draw): users differ in taste, rows per user vary."""
    draw = np.random.default_rng(seed)
    user = np.repeat(np.arange(users), draw.integers(2, 2 * rows, users))
    true = draw.normal(-0.5, 1, users)[user] + draw.normal(0, spread, len(user))
    label = (draw.random(len(user)) < metrics.probability(true)).astype(float)
    return ScoredSamples(label, user, user), true, draw


def noisy(true, draw, level):
    return (true + draw.normal(0, level, len(true))).astype(np.float32)


def resampled(samples, logit, times):
    """Return (label, logit, group) with every user repeated, each copy a group of its own."""
    parts = [
        (samples.label[mask], logit[mask], np.full(mask.sum(), copy * samples.users + user))
        for user in range(samples.users)
        for mask in [samples.user == user]
        for copy in range(int(times[user]))
    ]
    return tuple(np.concatenate(column) for column in zip(*parts, strict=True))


def test_replicates_are_the_metrics_of_resampled_users():
    samples, true, draw = world()
    logit = noisy(true, draw, 1.0)
    bundle, weights = user_weights(samples.users, 60, draw)
    assert bundle.tolist() == list(range(samples.users)) and (weights.sum(1) == samples.users).all()
    found = bootstrap(samples, [logit], bundle, weights)
    brute = {n: np.array([of(*resampled(samples, logit, row)) for row in weights]) for n, of in BRUTE.items()}
    np.testing.assert_allclose(found["gauc"][0], brute["gauc"], atol=1e-10)
    np.testing.assert_allclose(found["ne"][0], brute["ne"], atol=1e-10)
    assert found["auc"][0, 0] == pytest.approx(brute["auc"][0], abs=1e-12)
    # AUC is linearised: what is left out is of order 1 / users, against a spread of order 1 / sqrt(users).
    assert np.sqrt(np.mean((found["auc"][0] - brute["auc"]) ** 2)) < brute["auc"].std() / np.sqrt(samples.users)
    assert found["auc"][0].std() == pytest.approx(brute["auc"].std(), rel=0.05)


def test_many_users_are_drawn_in_bundles_of_the_same_spread(monkeypatch):
    samples, true, draw = world(users=3000, rows=3)
    logit = noisy(true, draw, 1.0)
    alone = bootstrap(samples, [logit], *user_weights(samples.users, 2000, draw))
    monkeypatch.setattr(transfer, "BUNDLES", 500)
    bundle, weights = user_weights(samples.users, 2000, draw)
    assert weights.shape == (2001, 500) and set(np.bincount(bundle)) == {6}
    for name, values in bootstrap(samples, [logit], bundle, weights).items():
        assert values[0, 0] == pytest.approx(alone[name][0, 0], abs=1e-12)
        assert values[0, 1:].std() == pytest.approx(alone[name][0, 1:].std(), rel=0.15)


def test_groups_of_one_user_follow_that_user():
    samples, true, draw = world()
    request = samples.user * 3 + draw.integers(0, 3, len(samples.user))
    split = ScoredSamples(samples.label, samples.user, request * 10**12)
    logit = noisy(true, draw, 1.0)
    bundle, weights = user_weights(split.users, 1, draw)
    keep = weights.copy()
    keep[1] = np.arange(split.users) < 50
    found = bootstrap(split, [logit], bundle, keep)["gauc"][0]
    first = samples.user < 50
    assert found[0] == pytest.approx(metrics.gauc(samples.label, logit, request))
    assert found[1] == pytest.approx(metrics.gauc(samples.label[first], logit[first], request[first]))


@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_intervals_over_few_seeds_cover(seeds):
    draw = np.random.default_rng(seeds)
    covered, trials = 0, 400
    for _ in range(trials):
        values = np.repeat(draw.normal(0, 1, seeds)[:, None], 801, axis=1)
        low, high = transfer._interval(transfer.over_seeds(values, transfer._spread(800, seeds, draw))[1:], 0.95)
        covered += low <= 0 <= high
    assert 0.91 < covered / trials < 0.985


def students(true, draw, level, seeds, shared):
    """Return raw students whose quality varies by seed, and distilled ones that share it."""
    raw, distilled = [], []
    for _ in range(seeds):
        common = draw.normal(0, 1, len(true))
        noise = level + draw.uniform(-shared, shared)
        raw.append((true + noise * common).astype(np.float32))
        distilled.append((true + 0.8 * noise * common).astype(np.float32))
    return raw, distilled


def test_eta_is_the_ratio_of_mean_gains_inside_its_interval():
    samples, true, draw = world(users=800)
    teacher = noisy(true, draw, 0.2)
    raw, distilled = students(true, draw, 1.5, 4, 0.1)
    for name, answer in transferability(samples, teacher, raw, distilled, replicates=500, confidence=0.95).items():
        score = {
            k: np.mean([BRUTE[name](samples.label, z, samples.group) for z in zs])
            for k, zs in (("teacher", [teacher]), ("raw", raw), ("distilled", distilled))
        }
        gain, room = score["distilled"] - score["raw"], score["teacher"] - score["raw"]
        assert answer.why is None
        assert (answer.gain, answer.teacher_gain) == pytest.approx((gain, room))
        assert answer.eta == pytest.approx(gain / room)
        assert 0 < answer.low < answer.eta < answer.high < 1
        assert answer.gain_low < answer.gain < answer.gain_high
        assert 0 < answer.teacher_gain_low < answer.teacher_gain < answer.teacher_gain_high


def test_pairing_by_seed_narrows_the_interval():
    samples, true, draw = world(users=400)
    teacher = noisy(true, draw, 0.2)
    raw, distilled = students(true, draw, 1.5, 5, 0.8)
    paired = transferability(samples, teacher, raw, distilled, replicates=500, confidence=0.95)["ne"]
    order = np.argsort([metrics.auc(samples.label, z) for z in raw])
    crossed = [distilled[i] for i in order[::-1]]
    ordered = [raw[i] for i in order]
    unpaired = transferability(samples, teacher, ordered, crossed, replicates=500, confidence=0.95)["ne"]
    assert paired.gain == pytest.approx(unpaired.gain)
    assert paired.gain_high - paired.gain_low < 0.5 * (unpaired.gain_high - unpaired.gain_low)


def test_same_seed_same_answer():
    samples, true, draw = world(users=40)
    raw, distilled = students(true, draw, 1.0, 2, 0.1)
    teacher = noisy(true, draw, 0.3)
    first, second = (transferability(samples, teacher, raw, distilled, replicates=50, confidence=0.9) for _ in range(2))
    assert first == second


def withheld(samples, teacher, raw, distilled):
    found = transferability(samples, teacher, raw, distilled, replicates=200, confidence=0.95)
    assert all((a.eta, a.low, a.high) == (None, None, None) for a in found.values())
    return {name: answer.why for name, answer in found.items()}


def test_withheld_from_one_seed():
    samples, true, draw = world()
    raw, distilled = students(true, draw, 1.5, 1, 0.1)
    assert "at least 2 users and 2 seeds" in withheld(samples, noisy(true, draw, 0.1), raw, distilled)["gauc"]


@pytest.mark.parametrize("code", [0, 3])
def test_withheld_from_one_user_whatever_its_code_and_without_advice_on_seeds(code):
    samples, true, draw = world(users=400)
    user = np.full(len(true), code)
    raw, distilled = students(true, draw, 1.5, 2, 0.1)
    why = withheld(ScoredSamples(samples.label, user, user), noisy(true, draw, 0.1), raw, distilled)
    assert set(why.values()) == {"an interval needs at least 2 users and 2 seeds; there are 1 and 2"}


def test_withheld_when_the_teacher_is_worse():
    samples, true, draw = world()
    raw, distilled = students(true, draw, 0.5, 3, 0.1)
    assert "not better than the raw student" in withheld(samples, noisy(true, draw, 4.0), raw, distilled)["auc"]


def test_withheld_when_the_teachers_gain_is_inside_the_noise():
    samples, true, draw = world(users=60)
    raw = [noisy(true, draw, level) for level in (0.3, 1.0, 2.2)]
    why = withheld(samples, noisy(true, draw, 0.6), raw, raw)
    assert all("inside the noise" in text for text in why.values()), why


def test_a_clear_gain_of_two_seeds_asks_for_seeds_and_not_for_rows():
    samples, true, draw = world(users=400)
    raw = [noisy(true, draw, level) for level in (1.0, 1.5)]
    why = withheld(samples, noisy(true, draw, 0.2), raw, raw)
    assert all("2 seeds are too few" in text and "add seeds (evaluate.seeds)" in text for text in why.values()), why


def test_a_gain_within_the_seeds_spread_is_noise_however_few_they_are():
    samples, true, draw = world(users=400)
    raw = [noisy(true, draw, level) for level in (0.7, 2.0)]
    why = withheld(samples, noisy(true, draw, 1.0), raw, raw)
    assert all("inside the noise" in text for text in why.values()), why


def test_a_gain_of_the_student_that_few_seeds_hide_is_named_beside_eta():
    samples, true, draw = world(users=800)
    raw, distilled = [noisy(true, draw, 2.0) for _ in range(2)], [noisy(true, draw, level) for level in (1.2, 1.5)]
    teacher = noisy(true, draw, 0.1)
    found = transferability(samples, teacher, raw, distilled, replicates=400, confidence=0.95)["ne"]
    assert found.low < 0 < found.eta and "too few to prove the gain" in found.why
    many = transferability(samples, teacher, raw * 3, distilled * 3, replicates=400, confidence=0.95)["ne"]
    assert many.low > 0 and many.why is None


def test_withheld_where_the_metric_does_not_exist():
    samples, true, draw = world()
    raw, distilled = students(true, draw, 1.0, 2, 0.1)
    none = ScoredSamples(np.zeros_like(samples.label), samples.user, samples.group)
    why = withheld(none, noisy(true, draw, 0.1), raw, distilled)
    assert set(why.values()) == {"the metric is not defined on this window"}
    nothing = np.zeros(0, np.float32)
    empty = ScoredSamples(np.zeros(0), np.zeros(0, int), np.zeros(0, int))
    assert len(withheld(empty, nothing, [nothing] * 2, [nothing] * 2)) == 3


def test_a_teacher_of_several_seeds_adds_its_own_spread():
    samples, true, draw = world(users=400)
    raw, distilled = students(true, draw, 2.0, 3, 0.05)
    teachers = [noisy(true, draw, level) for level in (0.1, 0.5, 0.9)]
    alone = transferability(samples, teachers[1], raw, distilled, replicates=400, confidence=0.95)["auc"]
    several = transferability(samples, teachers, raw, distilled, replicates=400, confidence=0.95)["auc"]
    width = [a.teacher_gain_high - a.teacher_gain_low for a in (alone, several)]
    assert width[1] > 1.5 * width[0]


def test_refuses_unpaired_students_and_groups_that_span_users():
    samples, true, draw = world(users=20)
    raw, distilled = students(true, draw, 1.0, 3, 0.1)
    with pytest.raises(UserError, match="3 raw and 2 distilled"):
        transferability(samples, raw[0], raw, distilled[:2], replicates=10, confidence=0.95)
    shared = ScoredSamples(samples.label, samples.user, samples.user // 2)
    with pytest.raises(UserError, match="several users"):
        transferability(shared, raw[0], raw, distilled, replicates=10, confidence=0.95)


def test_a_part_has_the_eta_of_its_rows_alone():
    samples, true, draw = world(users=400)
    samples = ScoredSamples(samples.label, samples.user, samples.user * 2 + draw.integers(0, 2, len(true)))
    raw, distilled = students(true, draw, 1.5, 3, 0.1)
    teacher, drawn = noisy(true, draw, 0.2), draw_all(samples.users, 1, 3, 300)
    mask = samples.user % 3 == 0
    models = [z[mask] for z in (teacher, *raw, *distilled)]
    values = bootstrap_gauc(samples.where(mask), models, drawn.bundle, drawn.weights)
    answer = estimate_of(values, drawn, len(np.unique(samples.user[mask])), 0.95)
    areas = [part[:, 0].mean() for part in np.split(values, [1, 4])]
    expected = [
        np.mean([metrics.gauc(samples.label[mask], z[mask], samples.group[mask]) for z in seeds])
        for seeds in ([teacher], raw, distilled)
    ]
    assert areas == pytest.approx(expected)
    assert answer.eta == pytest.approx((expected[2] - expected[1]) / (expected[0] - expected[1]))
    whole = transferability(samples, teacher, raw, distilled, replicates=300, confidence=0.95)["gauc"]
    assert answer.high - answer.low > whole.high - whole.low  # a third of the users bound it less


def test_eta_beyond_a_control_is_what_the_teacher_added_to_it():
    samples, true, draw = world(users=400)
    teacher, raw, own, distilled = (
        [noisy(true, draw, level) for _ in range(count)] for level, count in ((0.5, 1), (2.0, 3), (1.6, 3), (1.0, 3))
    )
    drawn = draw_all(samples.users, 1, 3, 200)
    found = transfer.transferability(samples, teacher, raw, distilled, drawn, 0.9, own)
    plain = transfer.transferability(samples, teacher, raw, distilled, drawn, 0.9)
    for name, of in BRUTE.items():
        t, r, o, d = (
            np.mean([of(samples.label, z, samples.group) for z in models]) for models in (teacher, raw, own, distilled)
        )
        assert found[name].eta == pytest.approx((d - o) / (t - r), abs=1e-6)
        assert (
            found[name].teacher_gain == pytest.approx(plain[name].teacher_gain) and found[name].gain < plain[name].gain
        )
        assert found[name].low < found[name].eta < found[name].high
    with pytest.raises(UserError, match="pair them by seed"):
        transfer.transferability(samples, teacher, raw, distilled, drawn, 0.9, own[:2])

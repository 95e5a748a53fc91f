"""The plan meets every row once per pass, in order the first time, and replays only what was met before."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from recdistill.config.data import SamplingConfig
from recdistill.config.models import StaleConfig, StudentConfig
from recdistill.config.starts import WarmStartConfig
from recdistill.train.schedule import Plan, kept

PLANS = st.builds(
    Plan,
    rows=st.integers(1, 300),
    block_rows=st.integers(1, 120),
    batch=st.integers(1, 40),
    replay=st.integers(0, 2),
    replay_window=st.integers(1, 100),
    epochs=st.integers(0, 2),
    seed=st.integers(0, 5),
)


@given(PLANS)
def test_every_row_once_per_pass(plan):
    steps = [(block, step) for block in range(plan.blocks) for step in plan.steps(block)]
    recorded = np.concatenate([step.rows for _, step in steps if step.record])
    assert recorded.tolist() == list(range(plan.rows))
    for epoch in range(1, plan.epochs + 1):
        blocks = range(epoch * plan.blocks_per_pass, (epoch + 1) * plan.blocks_per_pass)
        assert sorted(np.concatenate([s.rows for b, s in steps if b in blocks]).tolist()) == list(range(plan.rows))


@given(PLANS)
def test_replay_never_reaches_a_row_before_it_was_predicted(plan):
    met = 0
    for block in range(plan.blocks_per_pass):
        for step in plan.steps(block):
            if step.record:
                met = int(step.rows[-1]) + 1
            else:
                assert step.rows.max() < met and step.rows.min() >= met - plan.replay_window


def test_a_share_that_ends_with_a_checkpoint_is_that_checkpoint():
    plan = Plan.of(StudentConfig(), rows=1000, block_rows=10, seed=0)
    assert [plan.block_at(share / 100) for share in range(101)] == list(range(101))
    assert [plan.block_at(WarmStartConfig(at=0.7, frozen=one).thaw) for one in (0.1, 0.2, 0.3)] == [80, 90, 100]


@given(PLANS)
def test_a_block_is_the_same_whenever_it_is_asked_for(plan):
    last = plan.blocks - 1
    for one, two in zip(plan.steps(last), plan.steps(last), strict=True):
        np.testing.assert_array_equal(one.rows, two.rows)


def test_kept_follows_the_rates_and_not_the_order():
    ids, labels = np.arange(200_000), np.tile(np.array([1.0, 0.0]), 100_000)
    keep = kept(ids, labels, SamplingConfig(positive=0.8, negative=0.1), 3)
    assert abs(keep[::2].mean() - 0.8) < 0.005 and abs(keep[1::2].mean() - 0.1) < 0.005
    np.testing.assert_array_equal(
        keep[500:600], kept(ids[500:600], labels[500:600], SamplingConfig(positive=0.8, negative=0.1), 3)
    )
    assert kept(ids, np.full(200_000, np.nan), SamplingConfig(positive=0.1, negative=0.1), 3).all()


STALE = st.one_of(
    st.builds(StaleConfig, steps=st.integers(1, 5)),
    st.builds(StaleConfig, versions=st.integers(1, 3)),
    st.builds(StaleConfig, hours=st.floats(0.01, 2.0)),
)


@given(STALE, st.integers(1, 300), st.integers(1, 90), st.integers(1, 40))
def test_a_stale_model_says_every_row_and_learns_only_what_is_old_enough(stale, rows, block_rows, batch):
    times = np.arange(rows, dtype=np.int64) * 60_000_000  # a row a minute
    plan = Plan(rows, block_rows, batch, 0, 1, 0, 0, stale, times)
    said, learned = 0, 0
    for block in range(plan.blocks):
        for step in plan.steps(block):
            assert step.record != step.learn
            if step.record:
                assert step.rows[0] == said
                said = int(step.rows[-1]) + 1
                continue
            assert step.rows[0] == learned and len(step.rows) == batch
            learned = int(step.rows[-1]) + 1
            if stale.steps:
                assert said - learned >= stale.steps * batch
            elif stale.versions:
                assert learned <= (said // block_rows - stale.versions + 1) * block_rows
            else:
                assert times[said - 1] - times[learned - 1] >= int(stale.hours * 3.6e9)
    assert said == rows


def test_stale_weights_are_no_older_than_asked_for():
    times = np.arange(1000, dtype=np.int64) * 60_000_000
    for stale, history_end in (
        (StaleConfig(steps=3), 1000 - 3 * 10),
        (StaleConfig(hours=2.0), 1000 - 120),
        (StaleConfig(versions=1), 1000),
    ):
        plan = Plan(1000, 100, 10, 0, 1, 0, 0, stale, times)
        learned = [step for block in range(plan.blocks) for step in plan.steps(block) if step.learn]
        assert learned[-1].rows[-1] + 1 == history_end, stale

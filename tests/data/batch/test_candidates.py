"""Candidates are items of the samples just before, the same for whoever asks; a batch puts them after their sample."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from recdistill.config.models import CandidatesConfig
from recdistill.data.batch.builder import BatchBuilder, CandidateSignals
from recdistill.data.batch.candidates import Candidates
from recdistill.data.batch.numbers import COUNTS, numbers_of
from recdistill.data.store.sample_store import SampleStore
from recdistill.defaults import LIST_LENGTH
from recdistill.errors import UserError
from recdistill.tables.schema import EventSchema
from tests.support.runs import ingested, tiny

SCHEMA = EventSchema(("click",), {"position": "int64", "genres": "list<string>", "age": "float32"})


def candidates(count: int = 3, window: int = 50) -> Candidates:
    return Candidates.of(CandidatesConfig(count=count, window=window, item_features=["age", "genres"]), SCHEMA)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> SampleStore:
    return SampleStore(ingested(tmp_path_factory.mktemp("run"), tiny()).store)


def test_item_features_are_the_columns_that_come_with_the_item():
    found = candidates()
    np.testing.assert_array_equal(found.fields, [False, False, True])  # hour, position, age
    np.testing.assert_array_equal(found.slots, np.ones(LIST_LENGTH, bool))
    with pytest.raises(UserError, match="candidates.item_features: no feature 'agee'; did you mean 'age'"):
        Candidates.of(CandidatesConfig(count=1, item_features=["agee"]), SCHEMA)


@given(st.lists(st.integers(0, 10_000), min_size=1, max_size=20), st.integers(1, 300), st.integers(1, 5))
def test_drawn_from_the_window_before_and_alike_however_rows_are_cut(rows, window, count):
    at = np.array(rows)
    found = candidates(window=window)
    drawn = found.drawn(at, at * 7, count)
    back = at[:, None] - drawn
    assert ((back >= 1) & (back <= window) | (at[:, None] == 0) & (back == 0)).all() and (drawn >= 0).all()
    np.testing.assert_array_equal(
        drawn, np.concatenate([found.drawn(at[i : i + 1], at[i : i + 1] * 7, count) for i in range(len(at))])
    )
    np.testing.assert_array_equal(drawn, found.drawn(at, at * 7, count + 2)[:, :count])


def test_draws_are_even_over_the_window():
    rows = np.arange(100_000) + 1000
    back = rows - candidates(window=10).drawn(rows, rows, 1)[:, 0]
    counts = np.bincount(back, minlength=11)[1:]
    assert abs(counts / len(rows) - 0.1).max() < 0.005


def test_a_sample_without_a_signal_has_no_candidates_either(store):
    schema = EventSchema(
        ("click", "finish"), {"position": "int64", "device": "int64", "topic": "int64", "age_days": "float32"}
    )
    asked = Candidates.of(CandidatesConfig(count=2, window=30), schema)
    candidate_signals = CandidateSignals(asked, np.ones((len(store), 2, 2), np.float16), np.zeros(2, np.float32))
    signals = np.ones((len(store), 2), np.float32)
    signals[100:110] = np.nan
    batch = BatchBuilder(store, 5, signals, candidate_signals).build(np.arange(100, 130))
    has_signal = ~torch.isnan(batch.signals).all(1).view(30, 3)
    assert not has_signal[:10].any() and has_signal[10:].all()
    assert BatchBuilder(store, 5, signals, candidate_signals).build(np.arange(100, 110)).rows_per_sample == 1


def test_a_batch_holds_each_sample_and_then_its_candidates(store):
    schema = EventSchema(
        ("click", "finish"), {"position": "int64", "device": "int64", "topic": "int64", "age_days": "float32"}
    )
    asked = Candidates.of(CandidatesConfig(count=2, window=30, item_features=["topic", "age_days"]), schema)
    logits = np.arange(len(store) * 4, dtype=np.float16).reshape(len(store), 2, 2)
    rows = np.arange(100, 130)
    own = BatchBuilder(store, 5, store.labels).build(rows)
    batch = BatchBuilder(
        store, 5, store.labels, CandidateSignals(asked, logits, np.array([0.0, 2.0], np.float32))
    ).build(rows)
    drawn = asked.drawn(rows, store.sample_id[rows], 2)
    assert batch.rows_per_sample == 3 and len(batch) == 90
    for k in range(3):
        at = rows if k == 0 else drawn[:, k - 1]
        np.testing.assert_array_equal(batch.item.ids()[k::3], store.item[at])
        np.testing.assert_array_equal(batch.user.ids()[k::3], store.user[rows])
        context = batch.context.ids()[k::3].numpy()
        np.testing.assert_array_equal(context[:, [0, 1, 2]], store.context[rows][:, [0, 1, 2]])
        np.testing.assert_array_equal(context[:, [3, 4]], store.context[at][:, [3, 4]])
        np.testing.assert_array_equal(batch.values[k::3], store.values[at])
        np.testing.assert_array_equal(batch.history.of[k::3], own.history.of)
        known = store.counts_of(store.user[rows], store.item[at], store.time[rows])
        np.testing.assert_array_equal(batch.numbers[k::3, :COUNTS], numbers_of(known, 0)[:, :COUNTS])
    assert torch.equal(batch.labels[::3], own.labels) and torch.equal(batch.signals[::3], own.signals)
    assert torch.isnan(batch.labels[1::3]).all() and torch.isnan(batch.labels[2::3]).all()
    np.testing.assert_array_equal(batch.signals[1::3], logits[rows, 0] - np.array([0.0, 2.0], np.float32))
    np.testing.assert_array_equal(batch.signals[2::3], logits[rows, 1] - np.array([0.0, 2.0], np.float32))
    assert not torch.equal(batch.numbers[1::3], batch.numbers[::3])
    alone = BatchBuilder(store, 5).candidates(rows, asked)
    assert torch.equal(alone.numbers, torch.stack((batch.numbers[1::3], batch.numbers[2::3]), 1).flatten(0, 1))
    np.testing.assert_array_equal(alone.item.ids(), store.item[drawn.ravel()])
    np.testing.assert_array_equal(
        alone.context.ids(), torch.stack((batch.context.ids()[1::3], batch.context.ids()[2::3]), 1).flatten(0, 1)
    )


def test_a_model_without_counts_is_shown_none(store):
    rows = np.arange(100, 400)
    both, repeats = (
        BatchBuilder(store, 5, numbers=n).build(rows).numbers for n in (["counts", "repeats"], ["repeats"])
    )
    assert (both[:, :COUNTS] != 0).any() and not repeats[:, :COUNTS].any()
    assert torch.equal(both[:, COUNTS:], repeats[:, COUNTS:])


def test_a_model_reads_numeric_features_as_it_asks(store):
    rows = np.arange(100, 400)
    both, buckets, values = (
        BatchBuilder(store, 5, numeric_as=way).build(rows) for way in ("both", "buckets", "values")
    )
    (field,) = store.numeric_fields
    others = [at for at in range(store.context.shape[1]) if at != field]
    assert both.values.any() and both.context.ids()[:, field].all()
    assert torch.equal(buckets.context.ids(), both.context.ids()) and not buckets.values.any()
    assert torch.equal(values.values, both.values) and not values.context.ids()[:, field].any()
    assert torch.equal(values.context.ids()[:, others], both.context.ids()[:, others])
    np.testing.assert_array_equal(both.context.ids(), store.context[rows])


def test_a_candidate_is_looked_for_in_the_history_itself(store):
    rows = np.arange(100, 400)
    kinds = {"position": "int64", "device": "int64", "topic": "int64", "age_days": "float32"}
    schema = EventSchema(("click", "finish"), kinds)
    asked = Candidates.of(CandidatesConfig(count=2, window=30), schema)
    batch = BatchBuilder(store, 50).candidates(rows, asked)
    history, item = batch.history, batch.item.ids()
    events = history.unique[history.index]
    met = [
        bool((events[history.offsets[r] : history.offsets[r + 1]] == i).any())
        for r, i in zip(history.of, item, strict=True)
    ]
    assert (batch.numbers[:, COUNTS] > 0).tolist() == met and any(met) and not all(met)
    assert not BatchBuilder(store, 50, numbers=["counts"]).candidates(rows, asked).numbers[:, COUNTS:].any()

"""The live store against the batch one: the same rows, in whatever commits, give the same batches; restarts
see the same.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recdistill.data.batch import builder
from recdistill.data.batch.builder import BatchBuilder
from recdistill.data.store import live_store
from recdistill.data.store.live_store import LiveStore
from recdistill.data.store.sample_store import build_store
from tests.data.store.test_sample_store import (
    BEHAVED,
    DELAYED,
    SECOND,
    STAMP,
    START,
    expected,
    histories,
    index_of,
    log_of,
    micros,
    samples,
)


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_store, "PIECE", 5)


def plain(rows: pl.DataFrame) -> pl.DataFrame:
    """Return rows without features, whose vocabulary is numbered in order of the batch store's chunks."""
    return rows.select("sample_id", "time", "user_id", "item_id", "label_click", "label_buy", "label_time_click")


PLAIN = type(DELAYED)(("click", "buy"), user_id="string", label_times=("click",))


def same(one: builder.Batch, other: builder.Batch) -> bool:
    def parts(b):
        return [
            b.sample_id,
            b.item.ids(),
            b.user.ids(),
            b.context.ids(),
            b.labels,
            b.numbers,
            b.values,
            b.history.unique[b.history.index],
            b.history.ago,
            b.history.action,
            b.history.offsets,
            b.history.of,
            b.draw_offset,
        ]

    return all(torch.equal(x.nan_to_num(-1), y.nan_to_num(-1)) for x, y in zip(parts(one), parts(other), strict=True))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 60), st.lists(st.integers(0, 60), max_size=4), st.integers(1, 40))
def test_any_commits_give_the_batches_of_the_batch_store(seed: int, n: int, cuts: list[int], length: int) -> None:
    rows = plain(samples(np.random.default_rng(seed), n))
    with TemporaryDirectory() as folder:
        want = build_store(Path(folder) / "s", log_of(Path(folder) / "e", rows, PLAIN), None)
        got = LiveStore(Path(folder) / "live", PLAIN, None, behaviors=False)
        for low, high in zip([0, *sorted(cuts)], [*sorted(cuts), n], strict=True):
            got.add(rows[low:high])
        asked = np.arange(n)
        assert same(BatchBuilder(want, length).build(asked), BatchBuilder(got, length).build(asked))


def test_what_the_draw_of_negatives_adds_is_the_same_in_both_stores(tmp_path: Path) -> None:
    schema = replace(PLAIN, negatives=3, corrected=True)
    log_q = pl.Series([None, *np.linspace(-9, 0, 39)], dtype=pl.Float32)
    rows = plain(samples(np.random.default_rng(0), 40)).with_columns(log_q=log_q)
    want = build_store(tmp_path / "s", log_of(tmp_path / "e", rows, schema), None)
    got = LiveStore(tmp_path / "live", schema, None, behaviors=False)
    got.add(rows)
    one, other = (BatchBuilder(store, 3).build(np.arange(40)) for store in (want, got))
    assert same(one, other)
    assert one.draw_offset[:, 0].tolist() == pytest.approx([0.0, *(-np.log(3) - np.linspace(-9, 0, 39))], abs=1e-5)
    assert BatchBuilder(want, 3).unlabelled(np.arange(40)).draw_offset.equal(one.draw_offset)
    left = replace(schema, corrected=False)
    recorded = build_store(tmp_path / "r", log_of(tmp_path / "f", rows, left), None)
    assert not BatchBuilder(recorded, 3).build(np.arange(40)).draw_offset.numel()


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32), st.integers(2, 60), st.integers(1, 59), st.integers(1, 40))
def test_a_stream_after_a_batch_phase_goes_on_with_its_histories(seed: int, n: int, cut: int, length: int) -> None:
    rows = plain(samples(np.random.default_rng(seed), n))
    cut = min(cut, n - 1)
    with TemporaryDirectory() as folder:
        want = build_store(Path(folder) / "s", log_of(Path(folder) / "e", rows, PLAIN), None)
        base = build_store(Path(folder) / "b", log_of(Path(folder) / "f", rows[:cut], PLAIN), None)
        got = LiveStore(Path(folder) / "live", PLAIN, base, behaviors=False)
        got.add(rows[cut:])
        assert same(
            BatchBuilder(want, length).build(np.arange(cut, n)), BatchBuilder(got, length).build(np.arange(n - cut))
        )


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32), st.integers(2, 50), st.integers(1, 49), st.integers(1, 49), st.integers(1, 30))
def test_a_restart_sees_what_an_uninterrupted_run_sees(seed: int, n: int, saved: int, killed: int, length: int) -> None:
    rows = plain(samples(np.random.default_rng(seed), n))
    saved, killed = sorted((min(saved, n - 1), min(killed, n - 1)))
    with TemporaryDirectory() as folder:
        got = LiveStore(Path(folder) / "live", PLAIN, None, behaviors=False)
        got.add(rows[:saved], arrived=1.0)
        got.drop(saved // 2)
        arrays, state = got.state()
        got.add(rows[saved:killed], arrived=2.0)  # and then it is killed
        again = LiveStore(Path(folder) / "live", PLAIN, None, behaviors=False)
        assert again.restore(arrays, state)
        again.add(rows[saved:], arrived=3.0)
        whole = LiveStore(Path(folder) / "whole", PLAIN, None, behaviors=False)
        whole.add(rows, arrived=0.0)
        whole.drop(saved // 2)
        asked = np.arange(n - saved // 2)
        assert same(BatchBuilder(whole, length).build(asked), BatchBuilder(again, length).build(asked))
        assert again.arrived.tolist() == [1.0] * (saved - saved // 2) + [3.0] * (n - saved)
        assert again.rows.first == saved // 2


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 50), st.lists(st.integers(0, 50), max_size=4))
def test_how_commits_are_cut_changes_no_number(seed: int, n: int, cuts: list[int]) -> None:
    rows = samples(np.random.default_rng(seed), n)
    with TemporaryDirectory() as folder:
        one, other = (LiveStore(Path(folder) / name, DELAYED, None, behaviors=False) for name in ("one", "other"))
        one.add(rows)
        for low, high in zip([0, *sorted(cuts)], [*sorted(cuts), n], strict=True):
            other.add(rows[low:high])
        for name in ("context", "lists", "values", "user", "item", "labels", "history_end", "counts"):
            np.testing.assert_array_equal(one.rows[name], other.rows[name])


def test_a_store_without_its_files_is_not_taken_up(tmp_path: Path) -> None:
    rows = plain(samples(np.random.default_rng(0), 30))
    store = LiveStore(tmp_path / "live", PLAIN, None, behaviors=False)
    store.add(rows)
    assert not LiveStore(tmp_path / "other", PLAIN, None, behaviors=False).restore(*store.state())


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 30), st.integers(1, 50), st.integers(1, 12))
def test_histories_come_from_behaviors_that_came_before_the_samples(seed: int, n: int, m: int, length: int) -> None:
    draw = np.random.default_rng(seed)
    rows = samples(draw, n).select(
        "sample_id",
        "time",
        "item_id",
        user_id=draw.integers(0, 4, n),
        request_id=np.arange(n),
        label_click=pl.lit(1.0, pl.Float32),
    )
    did = pl.DataFrame(
        {
            "user_id": draw.integers(2, 7, m),
            "item_id": draw.integers(3, 12, m),
            "action": ["click"] * m,
            "time": pl.Series(START + np.sort(draw.integers(0, 40, m)) * 900 * SECOND).cast(STAMP),
        }
    )
    with TemporaryDirectory() as folder:
        store = LiveStore(Path(folder), BEHAVED, None, behaviors=True)
        store.append_behaviors(store.encode_behaviors(did))
        store.add(rows)
        batch = BatchBuilder(store, length).build(np.arange(n))
    item, time = index_of(did["item_id"], rows["item_id"]), micros(did["time"])
    events = [(u, item[i], t, t, 0) for u, i, t in zip(did["user_id"], did["item_id"], time, strict=True)]
    assert histories(batch) == expected(list(zip(rows["user_id"], micros(rows["time"]), strict=True)), events, length)


def test_outcomes_are_seen_by_the_samples_after_them_alone(tmp_path: Path) -> None:
    rows = plain(samples(np.random.default_rng(1), 6)).with_columns(
        user_id=pl.lit("u"), label_click=pl.lit(None, pl.Float32), time=pl.Series(START + np.arange(6) * 10).cast(STAMP)
    )
    store = LiveStore(tmp_path, PLAIN, None, behaviors=False)
    store.add(rows[:2])
    store.add_outcomes(np.array([0, 1]), START + np.array([25, 35]), np.array([1.0, 0.0]))
    store.add(rows[2:])
    lengths = np.diff(store.history(np.arange(6), 9).offsets)
    assert lengths.tolist() == [0, 0, 0, 1, 2, 2] and store.waiting == 0
    assert store.history(np.arange(6), 9).action.tolist() == [1, 1, 0, 1, 0]
    assert store.counts[:, :2].tolist() == [[0, 0], [0, 0], [0, 0], [1, 1], [2, 1], [2, 1]]
    item, later = np.repeat(store.item[0], 6), store.time
    alike = int(store.item[1] == store.item[0])
    assert store.item_counts(item, later)[:, 0].tolist() == [0, 0, 0, 1, 1 + alike, 1 + alike]

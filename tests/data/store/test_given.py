"""Sequences that rows bring: what a batch holds is what the log said, in the batch's store and in the stream's."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recdistill.config.data import ColumnsConfig, DataConfig
from recdistill.config.models import CandidatesConfig
from recdistill.data.batch.batch import Batch, History
from recdistill.data.batch.builder import BatchBuilder
from recdistill.data.batch.candidates import Candidates
from recdistill.data.readers.factory import open_log
from recdistill.data.store import live_store, sample_store
from recdistill.data.store.given import Given, as_before, shared
from recdistill.data.store.live_store import LiveStore
from recdistill.data.store.sample_store import SampleStore, build_store
from recdistill.evaluate.data_counts import describe
from recdistill.tables.events import EventLog
from recdistill.tables.schema import EventSchema

START, SECOND = 1_700_000_000, 1_000_000
COLUMNS = ColumnsConfig.model_validate(
    {"sequences": {"carts": {"items": "cart", "times": "at"}, "history": {"items": "seen"}}}
)
LIST = st.lists(st.tuples(st.integers(0, 9), st.integers(-500, -1)), max_size=6)
ROW = st.tuples(st.integers(0, 2), st.integers(0, 9), LIST, st.lists(st.integers(0, 9), max_size=5), st.booleans())
ROWS = st.lists(ROW, min_size=1, max_size=25)


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sample_store, "CHUNK", 7)
    monkeypatch.setattr(live_store, "PIECE", 3)


def events_of(folder: Path, rows: list[tuple[Any, ...]]) -> EventLog:
    """Return the events table of rows (user, item, entries (item, age), items, whether else like the row before)."""
    same: list[tuple[Any, ...]] = []
    for row in rows:
        last = same[-1] if row[4] and same else row
        same.append((last[0], row[1], last[2], last[3], last is not row))
    time = START + np.cumsum([not row[4] for row in same])
    frame = pl.DataFrame(
        {
            "time": time,
            "user_id": [row[0] for row in same],
            "item_id": [row[1] for row in same],
            "label": [k % 2 for k in range(len(same))],
            "cart": [[item for item, _ in row[2]] for row in same],
            "at": [[int(now) + age for _, age in row[2]] for now, row in zip(time, same, strict=True)],
            "seen": [row[3] for row in same],
        },
        schema_overrides={"cart": pl.List(pl.Int64), "at": pl.List(pl.Int64), "seen": pl.List(pl.Int64)},
    )
    frame.write_parquet(folder / "log.parquet")
    log = open_log(DataConfig(path="log.parquet", columns=COLUMNS), folder)
    events = EventLog.create(folder / "events", log.schema)
    for number, chunk in enumerate(log.batches()):
        events.append(chunk, writer="t", sequence=number)
    return events


def entries(one: History) -> list[list[tuple[int, int]]]:
    """Return, per sample, the (item, us ago) of its sequence."""
    flat = list(zip(one.unique[one.index].tolist(), one.ago.tolist(), strict=True))
    ends = one.offsets.tolist()
    return [flat[ends[r] : ends[r + 1]] for r in one.of.tolist()]


def codes_of(rows: list[dict[str, Any]]) -> dict[int, int]:
    """Return item -> code: by row, its own item first."""
    met = [item for row in rows for item in (row["item_id"], *row["sequence_carts"], *row["sequence_history"])]
    return {item: 1 + k for k, item in enumerate(dict.fromkeys(met))}


def expected(rows: list[dict[str, Any]], length: int) -> tuple[list[Any], list[Any]]:
    """Return (carts, histories) of events, as `entries` has them."""
    code = codes_of(rows)

    def of(row: dict[str, Any], name: str) -> list[tuple[int, int]]:
        times = row.get(f"times_{name}") or [row["time"]] * len(row[f"sequence_{name}"])
        ages = [round((row["time"] - at).total_seconds() * SECOND) for at in times]
        found = [(code[item], age) for item, age in zip(row[f"sequence_{name}"], ages, strict=True)]
        return found[max(0, len(found) - length) :]

    return [of(row, "carts") for row in rows], [of(row, "history") for row in rows]


def same(one: Batch, other: Batch) -> bool:
    """Return whether two batches hold the same, however they share it."""
    histories = [
        entries(one.history) == entries(other.history),
        entries(one.sequences[0]) == entries(other.sequences[0]),
    ]
    return all(histories) and torch.equal(one.item.ids(), other.item.ids()) and torch.equal(one.numbers, other.numbers)


@settings(max_examples=25, deadline=None)
@given(ROWS, st.integers(1, 8), st.integers(0, 2**32))
def test_lists_survive_from_the_log_to_the_batch(rows: list[Any], length: int, seed: int) -> None:
    with TemporaryDirectory() as folder:
        events = events_of(Path(folder), rows)
        store = build_store(Path(folder) / "store", events, None)
        written = pl.concat(events.batches()).to_dicts()
        asked = np.random.default_rng(seed).permutation(len(rows))
        batch = BatchBuilder(store, length).build(asked)
        carts, histories = expected(written, length)
        assert len(batch.sequences) == 1 and store.sequences == ["carts", "history"]
        assert entries(batch.sequences[0]) == [carts[at] for at in asked]
        assert entries(batch.history) == [histories[at] for at in asked]
        assert store.items == 1 + len(codes_of(written)) and store.actions == 1
        data = describe(store, events, events.version).sequences
        sizes = np.array([len(row["sequence_carts"]) for row in written])
        assert [one.sequence for one in data] == store.sequences and data[0].longest == sizes.max()
        assert data[0].empty == pytest.approx((sizes == 0).mean())
        assert data[0].mean == pytest.approx(sizes[sizes > 0].mean() if sizes.any() else 0)
        assert store.history_lengths(slice(None)).tolist() == [len(row["sequence_history"]) for row in written]


@settings(max_examples=20, deadline=None)
@given(ROWS, st.lists(st.integers(0, 25), max_size=4), st.integers(1, 8), st.integers(0, 25))
def test_any_commits_give_the_batches_of_the_batch_store(
    rows: list[Any], cuts: list[int], length: int, handed: int
) -> None:
    with TemporaryDirectory() as folder:
        events = events_of(Path(folder), rows)
        written, n = pl.concat(events.batches()), len(rows)
        store, handed = build_store(Path(folder) / "store", events, None), min(handed, n - 1)
        base = None
        if handed:
            early = EventLog.create(Path(folder) / "early", events.schema)
            early.append(written[:handed], writer="t", sequence=0)
            base = build_store(Path(folder) / "base", early, None)
        live = LiveStore(Path(folder) / "live", events.schema, base, behaviors=False)
        ends = [0, *sorted(min(cut, n - handed) for cut in cuts), n - handed]
        for low, high in zip(ends, ends[1:], strict=False):
            live.add(written[handed:][low:high])
        late = np.arange(n - handed)
        assert same(BatchBuilder(store, length).build(late + handed), BatchBuilder(live, length).build(late))


@settings(max_examples=20, deadline=None)
@given(ROWS, st.integers(0, 24), st.integers(0, 24), st.integers(1, 8))
def test_a_restart_and_dropped_rows_change_nothing(rows: list[Any], saved: int, dropped: int, length: int) -> None:
    with TemporaryDirectory() as folder:
        events = events_of(Path(folder), rows)
        written, n = pl.concat(events.batches()), len(rows)
        saved = min(saved, n - 1)
        dropped = min(dropped, saved)
        live = LiveStore(Path(folder) / "live", events.schema, None, behaviors=False)
        live.add(written[:saved])
        live.drop(dropped)
        arrays, state = live.state()
        live.add(written[saved:])
        again = LiveStore(Path(folder) / "live", events.schema, None, behaviors=False)
        assert again.restore(arrays, state)
        again.add(written[saved:])
        rest = np.arange(n - dropped)
        store = build_store(Path(folder) / "store", events, None)
        want = BatchBuilder(store, length).build(rest + dropped)
        assert same(want, BatchBuilder(live, length).build(rest)) and same(
            want, BatchBuilder(again, length).build(rest)
        )


def store_of(folder: Path, rows: list[Any]) -> tuple[SampleStore, EventSchema]:
    events = events_of(folder, rows)
    return build_store(folder / "store", events, None), events.schema


def test_rows_of_one_request_share_their_lists_in_the_store_and_in_the_batch(tmp_path: Path) -> None:
    list_of = [(3, -9), (4, -5)]
    store, _ = store_of(tmp_path, [(1, item, list_of, [5, 6, 7], item > 0) for item in range(6)])
    batch = BatchBuilder(store, 9).build(np.arange(6))
    assert len(batch.sequences[0].index) == 2 and len(batch.history.index) == 3
    assert batch.sequences[0].of.tolist() == [0] * 6
    assert (tmp_path / "store" / "given_carts_item.bin").stat().st_size == 2 * 4


def test_a_candidate_has_the_sequences_of_its_sample(tmp_path: Path) -> None:
    rows = [(k % 3, k % 7, [(k % 5, -3)] * (k % 3), [k % 4], False) for k in range(20)]
    store, schema = store_of(tmp_path, rows)
    asked = Candidates.of(CandidatesConfig(count=2, window=5), schema)
    own = BatchBuilder(store, 4).build(np.arange(20))
    batch = BatchBuilder(store, 4).candidates(np.arange(20), asked)
    assert entries(batch.sequences[0]) == [one for one in entries(own.sequences[0]) for _ in range(2)]
    assert torch.equal(batch.sequences[0].index, own.sequences[0].index)  # shared, not repeated


@given(st.lists(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 1)), max_size=3), max_size=12), st.integers(0, 99))
def test_a_row_like_the_one_before_shares_its_span(rows: list[list[tuple[int, int]]], start: int) -> None:
    flat = np.array([entry for row in rows for entry in row], np.int64).reshape(-1, 2)
    whole = Given(np.r_[0, np.cumsum([len(row) for row in rows], dtype=np.int64)], flat[:, 0], flat[:, 1])
    assert as_before(*whole).tolist() == [k > 0 and row == rows[k - 1] for k, row in enumerate(rows)]
    spans, kept = shared(whole, start)
    assert [
        list(zip(kept.item[a - start : b - start], kept.time[a - start : b - start], strict=True)) for a, b in spans
    ] == rows
    assert len(kept.item) == sum(len(row) for k, row in enumerate(rows) if not k or row != rows[k - 1])

"""An id has the vector that its table gave it, in the batch phase's store, in the stream's, and where nobody met it."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recdistill.config.models import CandidatesConfig
from recdistill.data.batch.batch import Batch
from recdistill.data.batch.builder import BatchBuilder
from recdistill.data.batch.candidates import Candidates
from recdistill.data.readers.base import Log
from recdistill.data.store.frozen_vectors import VECTORS, FrozenVectors, missing_vectors, open_vectors, write_vectors
from recdistill.data.store.live_store import LiveStore
from recdistill.data.store.sample_store import SampleStore, build_store
from recdistill.tables.events import EventLog
from tests.support.written import log_with, opened, write

TABLES = {
    "image": {"path": "image.parquet", "key": "sku"},
    "text": {"path": "text.parquet", "key": "sku", "column": "words"},
    "taste": {"path": "taste.parquet", "key": "who", "of": "user"},
    "art": {"column": "art"},
    "mood": {"column": "mood", "of": "user"},
}


def logged(folder: Path, items: list[int], users: list[int]) -> Log:
    """Return a log with two tables of vectors of items and one of users, and two vectors of each row, of which every
    third is missing; all are made of the ids.
    """
    images, texts = [7, 2, 4, 1], [9, 2]
    write(pl.DataFrame({"sku": images, "embedding": [[float(i), -1.0] for i in images]}), folder, "parquet", "image")
    write(pl.DataFrame({"sku": texts, "words": [[10.0 + i] for i in texts]}), folder, "parquet", "text")
    write(pl.DataFrame({"who": [1, 0], "embedding": [[21.0], [20.0]]}), folder, "parquet", "taste")
    art = [None if at % 3 == 2 else [100.0 + item, -1.0] for at, item in enumerate(items)]
    log = log_with(
        len(items),
        item_id=pl.Series(items, dtype=pl.Int64),
        user_id=pl.Series(users, dtype=pl.Int64),
        art=pl.Series(art, dtype=pl.List(pl.Float64)),
        mood=pl.Series([[200.0 + user] for user in users]),
    )
    return opened(log, folder, more={"vectors": TABLES})


def stored(folder: Path, log: Log, rows: int | None = None) -> tuple[SampleStore, EventLog]:
    """Return the store of the log's first rows."""
    events = EventLog.create(folder / "tables" / "events", log.schema)
    if not (folder / "tables" / VECTORS).exists():
        write_vectors(folder / "tables" / VECTORS, log.vectors)
    whole = pl.concat(log.batches())
    events.append(whole if rows is None else whole[:rows], writer="t", sequence=0)
    return build_store(folder / "store", events, None), events


def shown(batch: Batch, log: Log) -> dict[str, np.ndarray]:
    """Return the vectors of a batch's samples as the tables have them, [B, V]."""
    scale = {table.name: table.scale for table in log.vectors}
    item = [scale["image"], scale["image"], 1, scale["text"], 1]
    art, mood = (log.schema.row_vectors[name][2] for name in ("art", "mood"))
    row = [art, art, 1, mood, 1]
    scales = {"item": np.array(item), "user": np.array([scale["taste"], 1]), "row": np.array(row)}
    return {side: one.values.numpy()[one.inverse.numpy()] / scales[side] for side, one in batch.vectors.items()}


def wanted(items: list[int], users: list[int]) -> dict[str, np.ndarray]:
    image, text = [7, 2, 4, 1], [9, 2]
    of_item = [[*((i, -1, 0) if i in image else (0, 0, 1)), *((10 + i, 0) if i in text else (0, 1))] for i in items]
    of_user = [(20 + u, 0) if u < 2 else (0, 1) for u in users]
    return {"item": np.array(of_item, float).reshape(-1, 5), "user": np.array(of_user, float).reshape(-1, 2)}


def own_vectors(items: list[int], users: list[int]) -> np.ndarray:
    """Return what each row brought itself, [B, 5]."""
    rows = zip(range(len(items)), items, users, strict=True)
    return np.array([[*((0, 0, 1) if at % 3 == 2 else (100 + i, -1, 0)), 200 + u, 0] for at, i, u in rows], float)


def same(found: dict[str, np.ndarray], want: dict[str, np.ndarray]) -> None:
    assert found.keys() == want.keys()
    for side, values in want.items():
        np.testing.assert_allclose(found[side], values, rtol=1e-5)


IDS = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 3)), min_size=2, max_size=30)


@settings(max_examples=25, deadline=None)
@given(IDS, st.integers(0, 30), st.lists(st.integers(0, 30), max_size=3))
def test_every_sample_has_the_vectors_of_its_ids_in_batch_and_stream(
    ids: list[tuple[int, int]], first: int, cuts: list[int]
) -> None:
    """However many rows the batch phase has, none among them."""
    items, users = [item for item, _ in ids], [user for _, user in ids]
    first = min(first, len(ids) - 1)
    with TemporaryDirectory() as name:
        folder = Path(name)
        log = logged(folder, items, users)
        store, _ = stored(folder, log)
        want = {**wanted(items, users), "row": own_vectors(items, users)}
        same(shown(BatchBuilder(store, 3).build(np.arange(len(ids))), log), want)
        base = stored(folder / "first", log, first)[0] if first else None
        vectors = open_vectors(folder / "tables" / VECTORS, log.schema)
        live = LiveStore(folder / "live", store_schema(folder), base, behaviors=False, vectors=vectors)
        rows, left = pl.concat(log.batches())[first:], len(ids) - first
        for low, high in zip([0, *sorted(cuts)], [*sorted(cuts), left], strict=True):
            live.add(rows[low:high])
            if len(live):
                seen = {side: values[first : first + len(live)] for side, values in want.items()}
                same(shown(BatchBuilder(live, 3).build(np.arange(len(live))), log), seen)


def test_a_candidate_has_what_its_items_row_brought_and_keeps_what_is_of_the_user(tmp_path: Path) -> None:
    items, users = [at % 5 for at in range(60)], [at % 4 for at in range(60)]
    log = logged(tmp_path, items, users)
    store, events = stored(tmp_path, log)
    asked = Candidates.of(CandidatesConfig(count=2, window=20), events.schema)
    vectors = open_vectors(tmp_path / "tables" / VECTORS, events.schema)
    live = LiveStore(tmp_path / "live", events.schema, None, behaviors=False, candidate_window=20, vectors=vectors)
    live.add(pl.concat(log.batches()))
    for source in (store, live):
        batch = BatchBuilder(source, 3).candidates(np.arange(30, 60), asked)
        own = shown(batch, log)["row"]
        item = np.repeat(items[30:], 2)
        drawn = np.array([-1, *items])[np.array(first_rows(items))[batch.item.ids().numpy()]]
        there = own[:, 2] == 0
        np.testing.assert_allclose(own[there, 0], 100 + drawn[there], rtol=1e-5)
        assert (drawn != item).any() and not there.all()
        np.testing.assert_allclose(own[:, 3], 200 + np.repeat(users[30:], 2), rtol=1e-5)


def first_rows(items: list[int]) -> list[int]:
    """Return, per index of the vocabulary, one more than the row in which its item stands first; 0 for the padding."""
    return [0, *(items.index(item) + 1 for item in dict.fromkeys(items))]


def store_schema(folder: Path):  # noqa: ANN201
    return EventLog.open(folder / "tables" / "events").schema


def test_what_has_no_vector_is_counted_by_table(tmp_path: Path) -> None:
    log = logged(tmp_path, [7, 2, 9, 9, 5], [0, 1, 2, 3, 0])
    store, events = stored(tmp_path, log)
    assert list(missing_vectors(store.vectors, store.vector_index, store.row_vectors, events.schema)) == [
        "vectors.image: 2 of 4 items have no vector",
        "vectors.text: 2 of 4 items have no vector",
        "vectors.taste: 2 of 4 users have no vector",
        "vectors.art: 1 of 5 rows have no vector",
    ]


def test_an_id_that_no_sample_has_keeps_its_vector(tmp_path: Path) -> None:
    log = logged(tmp_path, [7, 7], [0, 0])
    stored(tmp_path, log)
    vectors = FrozenVectors(tmp_path / "tables" / VECTORS, "item")
    rows = vectors.rows_of(pl.Series([4, 100, 7]))
    assert rows[1] == 0 and vectors.values[rows, 0].tolist() == pytest.approx(
        [4 * log.vectors[0].scale, 0, 7 * log.vectors[0].scale]
    )
    assert vectors.values[rows[1]].tolist() == [0, 0, 1, 0, 1]


def test_a_log_without_vectors_has_none_in_its_batches(tmp_path: Path) -> None:
    log = opened(log_with(), tmp_path)
    events = EventLog.create(tmp_path / "events", log.schema)
    events.append(pl.concat(log.batches()), writer="t", sequence=0)
    assert BatchBuilder(build_store(tmp_path / "store", events, None), 3).build(np.arange(4)).vectors == {}

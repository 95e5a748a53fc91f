"""A sample reads the states of its user's last samples strictly before it in time, and no others."""

import numpy as np
import pytest

from recdistill.data.batch import past_states
from recdistill.data.batch.past_states import PastStates, write_order
from recdistill.data.store.sample_store import SampleStore
from tests.support.runs import ingested, tiny


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> SampleStore:
    return SampleStore(ingested(tmp_path_factory.mktemp("run"), tiny()).store)


@pytest.mark.parametrize("window", [None, 3_600_000_000, 20 * 3_600_000_000])
@pytest.mark.parametrize("count", [1, 3, 50])
def test_against_brute_force(store, tmp_path, monkeypatch, count, window):
    monkeypatch.setattr(past_states, "CHUNK", 7)
    draw = np.random.default_rng(0)
    codes, recorded = draw.integers(0, 255, (len(store), 4), np.uint8), draw.random(len(store)) < 0.7
    write_order(tmp_path, store)
    rows = draw.integers(0, len(store), 100)
    states, counts = PastStates.open(tmp_path, codes, recorded, store.time, count, window).gather(rows)
    for row, found, n in zip(rows, states, counts, strict=True):
        past = np.flatnonzero((store.user == store.user[row]) & (store.time < store.time[row]))[-count:]
        past = past[recorded[past]]
        wanted = codes[past if window is None else past[store.time[past] >= store.time[row] - window]]
        assert n == len(wanted)
        np.testing.assert_array_equal(found[:n], wanted)
        assert not found[n:].any()

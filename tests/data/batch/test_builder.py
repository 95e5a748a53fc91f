"""Deduplication gives the column back; prefetching keeps order and hands on errors."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from recdistill.data.batch.builder import dedupe, prefetch


@given(arrays.arrays(np.int32, st.tuples(st.integers(0, 20), st.integers(1, 4)), elements=st.integers(0, 50)))
def test_dedupe_is_exact_and_distinct(ids):
    unique, inverse = dedupe(ids, np.full(51, 99))
    assert unique[0] == 0 and len(set(unique.tolist())) == len(unique)
    assert set(unique.tolist()) == set(ids.reshape(-1).tolist()) | {0}
    np.testing.assert_array_equal(unique[inverse], ids)


def test_prefetch_keeps_order():
    assert list(prefetch(lambda x: x * x, range(100))) == [x * x for x in range(100)]


def test_prefetch_hands_on_the_workers_error():
    results = prefetch(lambda x: 1 // x, [2, 1, 0, 5])
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_prefetch_stops_its_thread_when_the_consumer_leaves():
    import threading

    before = threading.active_count()
    results = prefetch(lambda x: x, iter(int, 1), depth=2)
    next(results)
    results.close()
    assert threading.active_count() == before

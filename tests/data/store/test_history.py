"""Histories are strictly past, known, per user and in order: against brute force over random logs."""

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from recdistill.data.store.history import build_histories

EVENT = st.tuples(st.integers(0, 4), st.integers(1, 9), st.integers(0, 30), st.integers(0, 10), st.integers(0, 2))


@settings(max_examples=60, deadline=None)
@given(
    st.lists(EVENT, max_size=60),
    st.integers(1, 20),
    st.lists(st.tuples(st.integers(0, 4), st.integers(0, 45)), max_size=20),
)
def test_known_before_is_the_strict_past_of_the_user(events, chunk, queries):
    events = sorted(events, key=lambda e: e[2])
    user, item, time, delay, action = (
        (np.array(column, np.int64) for column in zip(*events, strict=True)) if events else (np.zeros(0, np.int64),) * 5
    )
    known = time + delay

    def chunks():
        for at in range(0, len(user), chunk):
            part = slice(at, at + chunk)
            yield user[part].astype(np.int32), item[part], time[part], known[part], action[part]

    with TemporaryDirectory() as folder:
        store = build_histories(Path(folder), chunks, users=5)
        asked = np.array([q[0] for q in queries], np.int64), np.array([q[1] for q in queries], np.int64)
        history_end = store.known_before(*asked)
        for u, t, end in zip(*asked, history_end, strict=True):
            got = sorted(zip(store.known[store.first[u] : end], store.item[store.first[u] : end], strict=True))
            assert got == sorted((known[i], item[i]) for i in range(len(user)) if user[i] == u and known[i] < t)
            assert (np.diff(store.known[store.first[u] : store.first[u + 1]]) >= 0).all()

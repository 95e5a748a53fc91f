"""Chains of blocks against a list per key, over many blocks, wherever the moment lies that is asked for."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from recdistill.data.store.chains import SIZE, Chains


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 4), st.lists(st.integers(0, 5 * SIZE), min_size=1, max_size=5))
def test_the_last_entry_before_a_moment(seed: int, keys: int, sizes: list[int]) -> None:
    rng = np.random.default_rng(seed)
    whole: list[list[tuple[int, int]]] = [[] for _ in range(keys)]
    with TemporaryDirectory() as folder:
        chains, now = Chains(Path(folder), {"value": ((2,), "int32")}), 0
        for size in sizes:
            key, known = rng.integers(0, keys, size), now + np.sort(rng.integers(0, 20, size))
            value = rng.integers(0, 99, size)
            chains.append(key, known, {"value": np.stack((value, -value), 1)})
            now = int(known.max(initial=now))
            for one in zip(key.tolist(), known.tolist(), value.tolist(), strict=True):
                whole[one[0]].append(one[1:])
        asked, time = rng.integers(0, keys + 1, 60), rng.integers(-1, now + 3, 60)
        count, block = chains.ends(asked, time)
        found = chains.values("value", count, block)
        for row in range(60):
            entries = whole[asked[row]] if asked[row] < keys else []
            early = [value for known, value in entries if known < time[row]]
            assert count[row] == len(early)
            assert not early or found[row].tolist() == [early[-1], -early[-1]]

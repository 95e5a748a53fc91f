"""HistoryArena against brute force: what was known before, in order, whatever the chunks; heads bring older
histories back.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from recdistill.data.store.history import Events
from recdistill.data.store.history_arena import HistoryArena

NOTHING = Events(np.zeros(1, np.int64), np.zeros(0, np.int32), np.zeros(0, np.int64), np.zeros(0, np.uint8))


def nothing(rows: int) -> Events:
    return Events(np.zeros(rows + 1, np.int64), *NOTHING[1:])


def random_events(rng: np.random.Generator, n: int, users: int) -> tuple[np.ndarray, ...]:
    user = rng.integers(0, users, n).astype(np.int32)
    time = rng.integers(0, 50, n)
    known = np.sort(time + rng.integers(0, 5, n))
    return user, rng.integers(1, 9, n).astype(np.int32), time, known, rng.integers(0, 2, n).astype(np.uint8)


def brute(chunks: list[tuple[np.ndarray, ...]], user: int) -> list[tuple[int, int, int, int]]:
    """Return (item, time, known, action) of a user's events in their order; known never falls."""
    told: list[tuple[int, int, int, int]] = []
    for chunk in chunks:
        for u, item, time, known, action in zip(*chunk, strict=True):
            if u == user:
                told.append((int(item), int(time), max(int(known), told[-1][2] if told else -(10**9)), int(action)))
    return told


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 10**6), st.integers(1, 6), st.lists(st.integers(0, 80), min_size=1, max_size=5), st.integers(1, 60)
)
def test_histories_are_those_of_brute_force(seed: int, users: int, sizes: list[int], length: int) -> None:
    rng = np.random.default_rng(seed)
    with TemporaryDirectory() as folder:
        chains, chunks = HistoryArena(Path(folder)), [random_events(rng, n, users) for n in sizes]
        for chunk in chunks:
            chains.add(*chunk)
        user, time = rng.integers(0, users + 2, 20), rng.integers(0, 60, 20)
        stop = chains.history_end(user, time)
        seen = chains.gather(user, np.maximum(stop - length, 0), stop, nothing(20))
        for row in range(20):
            want = [event for event in brute(chunks, user[row]) if event[2] < time[row]][-length:]
            part = slice(seen.offsets[row], seen.offsets[row + 1])
            got = list(zip(seen.item[part].tolist(), seen.time[part].tolist(), seen.action[part].tolist(), strict=True))
            assert got == [(item, when, action) for item, when, _, action in want]


def test_older_heads_bring_older_histories_back_in_the_same_places(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    chunks = [random_events(rng, 300, 5) for _ in range(20)]
    one = HistoryArena(tmp_path / "one")
    for chunk in chunks[:7]:
        one.add(*chunk)
    heads = one.heads()
    for chunk in chunks[7:]:
        one.add(*chunk)
    other = HistoryArena(tmp_path / "one")
    assert other.restore(heads)
    everybody = np.arange(5)

    def told(chains: HistoryArena) -> list[int]:
        return chains.gather(everybody, np.zeros(5, np.int64), chains.count[:5], nothing(5)).item.tolist()

    assert told(other) == [item for user in range(5) for item, *_ in brute(chunks[:7], user)]
    for chunk in chunks[7:]:
        other.add(*chunk)
    assert told(other) == told(one) == [item for user in range(5) for item, *_ in brute(chunks, user)]


def test_heads_without_their_arena_are_not_taken_up(tmp_path: Path) -> None:
    chains = HistoryArena(tmp_path / "here")
    chains.add(*random_events(np.random.default_rng(0), 50, 3))
    other = HistoryArena(tmp_path / "elsewhere")
    assert not other.restore(chains.heads()) and other.used == 0


def test_earlier_events_stand_before_the_chain(tmp_path: Path) -> None:
    chains = HistoryArena(tmp_path)
    chains.add(np.array([1, 1]), np.array([7, 8]), np.array([10, 11]), np.array([10, 11]), np.array([0, 1]))
    before = Events(
        np.array([0, 2, 3]), np.array([1, 2, 3], np.int32), np.array([1, 2, 3]), np.array([0, 0, 0], np.uint8)
    )
    seen = chains.gather(np.array([0, 1]), np.array([0, 0]), np.array([0, 2]), before)
    assert (seen.offsets.tolist(), seen.item.tolist()) == ([0, 2, 5], [1, 2, 3, 7, 8])

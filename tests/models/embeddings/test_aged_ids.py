"""A bounded set of ids, against one that is written down naively."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from recdistill.models.embeddings.aged_ids import WAYS, AgedIds

rounds = st.lists(st.sets(st.integers(1, 60), max_size=30), max_size=12)


@given(rounds, st.integers(8, 40))
def test_the_id_of_a_remainder_that_was_seen_longest_ago_gives_way(asked: list[set[int]], most: int) -> None:
    """Each round's ids are seen at one time."""
    found, sets = AgedIds(most), most // WAYS
    last = dict[int, int]()
    for now, ids in enumerate(asked):
        array = np.array(sorted(ids), np.int64)
        places = found.find(array)
        found.last[places[places >= 0]] = now
        last |= dict.fromkeys(array[places >= 0].tolist(), now)
        assert set(array[places >= 0].tolist()) == ids & last.keys()
        given, gave_way = found.take(array[places < 0], now)
        before = len(last)
        for one in array[places < 0].tolist():
            mine = [other for other in last if other % sets == one % sets]
            oldest = min((last[other] for other in mine), default=-1)
            if len(mine) == WAYS and oldest == now:
                continue
            if len(mine) == WAYS:
                gone = [o for o in mine if last[o] == oldest and found.find(np.array([o]))[0] < 0]
                del last[gone[0]]
            last[one] = now
        there = found.find(np.arange(1, 61))
        assert set((np.flatnonzero(there >= 0) + 1).tolist()) == last.keys()
        assert len(found) == len(last) <= sets * WAYS and gave_way == before + int((given >= 0).sum()) - len(last)
        assert (found.ids[there[there >= 0]] == np.flatnonzero(there >= 0) + 1).all()


def test_padding_is_never_there_and_who_left_is_gone() -> None:
    found = AgedIds(8)
    places, gave_way = found.take(np.array([3, 4]), 0)
    assert gave_way == 0 and found.find(np.array([0, 3, 4, 5])).tolist() == [-1, *places, -1]
    found.leave(places[:1])
    assert found.find(np.array([3, 4])).tolist() == [-1, places[1]] and len(found) == 1

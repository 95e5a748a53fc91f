"""Requests side by side: who shares what, and whose row is whose."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from recdistill.serve.together import groups, together
from recdistill.typing import Array

LOOK_UPS = [(0, "item", 2), (1, "history", 2), (0, "history", 2)]


@given(st.lists(st.integers(1, 6), min_size=1, max_size=5))
def test_every_candidate_stands_in_a_slot_of_its_user(sizes: list[int]) -> None:
    found = groups(sizes)
    assert found["slots"].shape == (len(sizes), max(sizes))
    assert found["row"].tolist() == [user for user, size in enumerate(sizes) for _ in range(size)]
    assert found["slots"].ravel()[found["place"]].tolist() == list(range(sum(sizes)))
    assert (found["place"] // max(sizes) == found["row"]).all()


def request(draw: np.random.Generator, candidates: int) -> dict[str, Array]:
    """Return the inputs of a request, its rows told by its candidates and events."""
    rows = [draw.normal(size=(4, 2)) for _ in LOOK_UPS]
    for one in rows:
        one[0] = 0  # the padding
    places = {"item": draw.integers(0, 4, candidates), "history": draw.integers(0, 4, (1, 5))}
    places |= {f"ids_{column}": np.r_[0, draw.integers(1, 99, 3)] for column in ("item", "history")}
    places |= {"vectors_row": draw.normal(size=(2, 3)), "row_vector": draw.integers(0, 2, candidates)}
    return {
        **places,
        "events": np.array([5]),
        **{f"rows_{at}": one for at, one in enumerate(rows)},
        **groups([candidates]),
    }


@given(st.lists(st.integers(1, 4), min_size=1, max_size=4), st.integers(0, 99))
def test_together_every_place_has_the_row_that_it_had_alone(sizes: list[int], seed: int) -> None:
    draw = np.random.default_rng(seed)
    alone = [request(draw, size) for size in sizes]
    found = together(alone)
    for number, (_, column, _) in enumerate(LOOK_UPS):
        rows = f"rows_{number}"
        assert not found[rows][0].any()
        wanted = np.concatenate([one[rows][one[column]] for one in alone])
        assert np.array_equal(found[rows][found[column]], wanted)
        assert np.array_equal(found[column] == 0, np.concatenate([one[column] for one in alone]) == 0)
        ids = np.concatenate([one[f"ids_{column}"][one[column]] for one in alone])
        assert np.array_equal(found[f"ids_{column}"][found[column]], ids)
    vectors = np.concatenate([one["vectors_row"][one["row_vector"]] for one in alone])
    assert np.array_equal(found["vectors_row"][found["row_vector"]], vectors)
    assert found["events"].tolist() == [5] * len(sizes)
    assert found["row"].tolist() == groups(sizes)["row"].tolist()

"""Who is scored next, and with whom."""

from __future__ import annotations

from concurrent.futures import Future
from typing import Any, cast

from hypothesis import given
from hypothesis import strategies as st

from recdistill.serve.request import MOST_CANDIDATES, Request
from recdistill.serve.waiting import Job, Waiting


def job(scorer: str, candidates: int) -> Job:
    return Job(Request(None, range(candidates), 0.0), cast(Any, scorer), Future())


@given(
    st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from([1, 4000, MOST_CANDIDATES])), max_size=12),
    st.integers(1, 4),
)
def test_all_are_taken_in_order_in_calls_of_one_version_within_bounds(
    given_: list[tuple[str, int]], together: int
) -> None:
    waiting, jobs = Waiting(together), [job(*one) for one in given_]
    for one in jobs:
        waiting.add(one)
    calls = [waiting.next() for _ in jobs]
    assert [one for call in calls for one in call] == jobs and len(waiting) == 0
    for call in filter(None, calls):
        assert len(call) <= together and len({str(one.scorer) for one in call}) == 1
        assert len(call) == 1 or sum(len(one.request.items) for one in call) <= MOST_CANDIDATES


def test_one_that_nobody_waits_for_is_forgotten() -> None:
    waiting, first, second = Waiting(1), job("a", 1), job("a", 1)
    for one in (first, second):
        waiting.add(one)
    waiting.drop(first)
    waiting.drop(first)
    assert waiting.next() == [second] and waiting.next() == []

"""A damaged log is refused in one line or taken as what it holds; no traceback, no run that is half there."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.fuzz import FORMS, Fuzzer


@pytest.fixture(scope="module")
def fuzzer(tmp_path_factory: pytest.TempPathFactory) -> Fuzzer:
    return Fuzzer(tmp_path_factory.mktemp("fuzz"))


@given(seed=st.integers(0, 2**32))
@settings(max_examples=300, deadline=None)
def test_a_damaged_log_is_refused_in_one_line_or_taken(seed: int, fuzzer: Fuzzer) -> None:
    assert not fuzzer.try_one(seed)


def test_a_whole_log_is_taken_in_every_form(fuzzer: Fuzzer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.support.fuzz.damaged", lambda content, draw: content)
    before = fuzzer.refused
    assert not any(fuzzer.try_one(seed) for seed in range(2 * len(FORMS))) and fuzzer.refused == before


def test_what_is_wrong_is_seen(fuzzer: Fuzzer, monkeypatch: pytest.MonkeyPatch) -> None:
    def panic(*words: object) -> int:
        raise RuntimeError("a panic")

    monkeypatch.setattr("tests.support.fuzz.ingest", panic)
    assert fuzzer.try_one(1).endswith("RuntimeError: a panic")
    monkeypatch.setattr("tests.support.fuzz.ingest", lambda *words: 0)
    assert fuzzer.try_one(1).endswith("taken, but there is no run")

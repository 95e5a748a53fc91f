"""Hashes stay what they were for ever; a vocabulary gives an id one index however the log is cut."""

from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recdistill.data.store import vocabulary as ids
from recdistill.data.store.vocabulary import Vocabulary, collisions, stable_hash64

NAME = st.one_of(st.none(), st.text(max_size=6), st.sampled_from(["a", "b", "", "a\0", "ä", "日本"]))
KEY = st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1), st.integers(0, 5))


def by_the_book(text):
    """Return FNV-1a of the UTF-8 bytes, then splitmix64's finish, then the upper 63 bits, in Python's integers."""
    state, mask = 0xCBF29CE484222325, 2**64 - 1
    for byte in text.encode():
        state = (state ^ byte) * 0x100000001B3 & mask
    state = (state ^ state >> 30) * 0xBF58476D1CE4E5B9 & mask
    state = (state ^ state >> 27) * 0x94D049BB133111EB & mask
    return (state ^ state >> 31) >> 1


def test_hashes_are_pinned():
    values = pl.Series(["", "a", "user_42", "日本", "x" * 300])
    assert stable_hash64(values).tolist() == [
        8832978290816513101,
        99183506424991868,
        4570769707465068115,
        6627721192101189507,
        5885532892535040633,
    ]
    assert stable_hash64(pl.Series([1, -7, 2**62])).tolist() == [
        2541128369176532975,
        2735312634145446768,
        5719456011860590435,
    ]


@given(st.lists(NAME, max_size=30))
def test_hashes_are_the_book_s_whatever_stands_beside_them(values):
    found = stable_hash64(pl.Series(values, dtype=pl.String))
    assert found.dtype == np.int64 and len(found) == len(values)
    assert found.tolist() == [by_the_book(value or "") for value in values]
    assert (found >= 0).all()


@given(st.lists(KEY, max_size=30))
def test_an_integer_hashes_like_its_digits(values):
    series = pl.Series(values, dtype=pl.Int64)
    assert stable_hash64(series).tolist() == stable_hash64(series.cast(pl.String)).tolist()


def test_two_hundred_thousand_ids_do_not_collide_and_fill_every_bit():
    values = pl.Series(np.arange(200_000))
    found = stable_hash64(values)
    assert len(np.unique(found)) == len(values) and collisions(values) == []
    for bit in range(63):
        assert abs(((found >> bit) & 1).mean() - 0.5) < 0.005, bit


@given(st.lists(st.integers(0, 40), max_size=60), st.integers(1, 9))
def test_collisions_are_reported_as_groups_of_distinct_values(values, modulus):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ids, "stable_hash64", lambda series: series.to_numpy() % modulus)
        found = collisions(pl.Series(values, dtype=pl.Int64))
    shared = Counter(value % modulus for value in set(values))
    assert sorted(map(sorted, found)) == sorted(
        sorted(value for value in set(values) if value % modulus == hash_)
        for hash_, count in shared.items()
        if count > 1
    )


def test_an_empty_id_and_a_missing_one_share_a_hash_and_are_told():
    assert collisions(pl.Series([None, "a", ""])) == [[None, ""]]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.one_of(st.none(), st.integers(0, 30)), max_size=60),
    st.lists(st.integers(0, 60), max_size=4),
    st.booleans(),
)
def test_a_vocabulary_grown_in_pieces_is_the_one_grown_at_once(values, cuts, strings):
    series = pl.Series(values, dtype=pl.Int64)
    series = series.cast(pl.String) if strings else series
    whole, grown = Vocabulary(), Vocabulary()
    at_once = whole.encode(series, grow=True)
    edges = [0, *sorted(cuts), len(values)]
    parts = [grown.encode(series[a:b], grow=True) for a, b in zip(edges, edges[1:], strict=False)]
    assert np.concatenate(parts).tolist() == at_once.tolist()
    assert at_once.dtype == np.int32 and len(whole) == len(grown) == len(set(values) - {None})
    order = list(dict.fromkeys(value for value in values if value is not None))
    assert at_once.tolist() == [0 if value is None else 1 + order.index(value) for value in values]


@given(st.lists(NAME, max_size=20), st.lists(NAME, max_size=20))
def test_what_was_never_met_is_0_and_is_not_learned_without_grow(known, asked):
    vocabulary = Vocabulary()
    vocabulary.encode(pl.Series(known, dtype=pl.String), grow=True)
    size = len(vocabulary)
    found = vocabulary.encode(pl.Series(asked, dtype=pl.String), grow=False)
    assert [bool(index) for index in found] == [value is not None and value in known for value in asked]
    assert len(vocabulary) == size


@settings(max_examples=20, deadline=None)
@given(st.lists(NAME, max_size=20), st.lists(NAME, max_size=20))
def test_a_saved_vocabulary_goes_on_growing_where_it_was(before, after):
    vocabulary = Vocabulary()
    vocabulary.encode(pl.Series(before, dtype=pl.String), grow=True)
    with TemporaryDirectory() as folder:
        vocabulary.save(Path(folder) / "v.parquet")
        loaded = Vocabulary.load(Path(folder) / "v.parquet")
    later = pl.Series(after, dtype=pl.String)
    assert loaded.encode(later, grow=True).tolist() == vocabulary.encode(later, grow=True).tolist()
    assert len(loaded) == len(vocabulary)


def test_a_vocabulary_that_met_nothing_can_be_saved(tmp_path):
    Vocabulary().save(tmp_path / "v.parquet")
    assert Vocabulary.load(tmp_path / "v.parquet").encode(pl.Series(["a", "b", "a"]), grow=True).tolist() == [1, 2, 1]

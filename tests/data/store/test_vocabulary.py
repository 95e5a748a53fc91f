"""A vocabulary gives an id one index however the log is cut."""

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from recdistill.data.store.vocabulary import Vocabulary

NAME = st.one_of(st.none(), st.text(max_size=6), st.sampled_from(["a", "b", "", "a\0", "ä", "日本"]))


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

"""Rows become the same small integers however they are cut, in both kinds of vocabulary."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recdistill.data.store.encoder import Encoder, context_fields, field_counts, known_times, list_entries
from recdistill.data.store.growing_vocabulary import GrowingVocabulary
from recdistill.data.store.vocabulary import Vocabulary
from recdistill.defaults import LIST_LENGTH
from recdistill.tables.delta.types import TIME
from recdistill.tables.schema import EventSchema

SCHEMA = EventSchema(("click",), {"device": "string", "tags": "list<string>", "price": "float32"})
ROW = st.tuples(
    st.integers(0, 5),
    st.integers(0, 5),
    st.sampled_from(["a", "b", None]),
    st.lists(st.sampled_from("xyz"), max_size=9),
)


def rows_of(values: list[tuple[int, int, str | None, list[str]]]) -> pl.DataFrame:
    """Return events, one an hour."""
    columns = {"sample_id": pl.Int64, "time": TIME, "user_id": pl.Int64, "item_id": pl.Int64}
    columns |= {
        "feature_device": pl.String,
        "feature_tags": pl.List(pl.String),
        "feature_price": pl.Float32,
        "label_click": pl.Float32,
    }
    return pl.DataFrame(
        [(k, k * 3_600_000_000, user, item, device, tags, float(user), 1.0)
         for k, (user, item, device, tags) in enumerate(values)],
        schema=columns,
        orient="row",
    )  # fmt: skip


@pytest.mark.parametrize("live", [False, True])
@settings(max_examples=40, deadline=None)
@given(values=st.lists(ROW, min_size=1, max_size=20), cut=st.integers(0, 20))
def test_codes_do_not_depend_on_the_cut(
    live: bool, values: list[tuple[int, int, str | None, list[str]]], cut: int
) -> None:
    rows = rows_of(values)
    with TemporaryDirectory() as folder:
        encoders = [
            Encoder(SCHEMA, *(GrowingVocabulary(Path(folder) / at, name) if live else Vocabulary() for name in "uic"))
            for at in "01"
        ]
        whole = encoders[0].rows(rows)[0]
        parts = [encoders[1].rows(part)[0] for part in (rows[:cut], rows[cut:]) if len(part)]
    for name, column in whole.items():
        np.testing.assert_array_equal(np.concatenate([part[name] for part in parts]), column)
    for column, ids in (("user", rows["user_id"]), ("item", rows["item_id"])):
        order = list(dict.fromkeys(ids.to_list()))
        assert whole[column].tolist() == [1 + order.index(value) for value in ids.to_list()]


def test_fields_are_the_hour_and_scalars_lists_have_slots() -> None:
    assert context_fields(SCHEMA) == ["", "device", "price"] and field_counts(SCHEMA) == (3, LIST_LENGTH)
    encoder = Encoder(SCHEMA, Vocabulary(), Vocabulary(), Vocabulary())
    found = encoder.rows(rows_of([(1, 1, "a", list("xyxyxyxyxy")), (2, 1, "a", [])]))[0]
    assert found["context"].shape == (2, 3) and found["lists"].shape == (2, LIST_LENGTH)
    assert (found["lists"][0] > 0).all() and not found["lists"][1].any()  # cut, and padded with 0
    assert found["context"][0, 1] == found["context"][1, 1] != found["context"][0, 0]


def test_an_outcome_is_known_with_its_sample_unless_the_log_has_a_later_time() -> None:
    rows = rows_of([(0, 0, None, [])] * 3)
    assert known_times(rows, SCHEMA)[:, 0].tolist() == [0, 3_600_000_000, 7_200_000_000]
    timed = rows.with_columns(label_time_click=pl.Series([5, 0, None], dtype=pl.Int64).cast(TIME))
    assert known_times(timed, SCHEMA)[:, 0].tolist() == [5, 3_600_000_000, np.iinfo(np.int64).max]


@given(st.lists(st.none() | st.lists(st.none() | st.sampled_from("xyz"), max_size=7), max_size=8), st.integers(1, 5))
def test_the_last_entries_of_a_list_stay_in_their_order(lists: list[list[str | None] | None], length: int) -> None:
    row, value = list_entries(pl.Series(lists, dtype=pl.List(pl.String)), length)
    want = [
        (k, entry)
        for k, one in enumerate(lists)
        for entry in [entry for entry in one or [] if entry is not None][-length:]
    ]
    assert list(zip(row.tolist(), value.to_list(), strict=True)) == want


def test_a_schema_says_how_many_entries_a_model_sees() -> None:
    long = replace(SCHEMA, list_length=20)
    assert field_counts(long) == (3, 20)
    found = Encoder(long, *(Vocabulary() for _ in range(3))).rows(rows_of([(1, 1, "a", [*"abcdefghijkl"])]))[0]["lists"]
    assert found.shape == (1, 20) and (found[0, :12] > 0).all() and not found[0, 12:].any()

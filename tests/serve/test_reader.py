"""A request's arrays, looked up one value at a time: each candidate, event and field has its own row."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recdistill.data.buckets import bucket_of
from recdistill.data.keys import context_key
from recdistill.errors import UserError
from recdistill.serve.artefact import Artefact, open_artefact
from recdistill.serve.reader import Reader
from recdistill.serve.request import Past, Request
from recdistill.typing import Array

HOUR = 3600.0
IDS = st.lists(st.sampled_from([1, 2, 3, 3.0, "4", 39, 10**12]), min_size=1, max_size=6)
VALUES = st.one_of(st.none(), st.sampled_from([0, 1, 2, 3, 77, 10**9]))


@pytest.fixture(scope="module")
def reader(artefact: Path) -> Reader:
    return Reader(open_artefact(artefact))


def rows(inputs: dict[str, Array], artefact: Artefact, column: str) -> list[tuple[Array, Array]]:
    """Return (rows that the graph sees at a column's places, the table) per look-up of the column."""
    look_ups = enumerate(artefact.manifest.look_ups)
    return [
        (inputs[f"rows_{number}"][inputs[column]], np.asarray(artefact.tables[table]))
        for number, (table, name, _) in look_ups
        if name == column
    ]


def of_keys(artefact: Artefact, keys: list[str]) -> Array:
    return np.array([int(artefact.context.places([key])[0]) for key in keys])


@given(st.data())
def test_every_candidate_and_event_has_its_own_row(reader: Reader, data: st.DataObject) -> None:
    artefact, items, events = reader.artefact, data.draw(IDS), data.draw(IDS)
    times = [float(data.draw(st.integers(1, 30))) for _ in events]
    past = Past(events, times, [data.draw(st.sampled_from(list(reader.actions))) for _ in events])
    user = data.draw(st.sampled_from([None, 3, 10**12]))
    inputs = reader.arrays(Request(user, items, 20.0, history=past))
    order = [at for _, at in sorted((time, at) for at, time in enumerate(times) if time < 20)][
        -artefact.manifest.history :
    ]
    wanted = {
        "item": artefact.items.places([int(one) for one in items]),
        "user": artefact.users.places([user or 0] * len(items)) if user else np.zeros(len(items), int),
        "history": artefact.items.places([int(events[at]) for at in order]),
    }
    for column, ids in wanted.items():
        for found, table in rows(inputs, artefact, column):
            assert np.array_equal(found.reshape(-1, table.shape[1])[: len(ids)], table[ids])
        assert np.array_equal(inputs[column].ravel()[: len(ids)] == 0, ids == 0)
    assert inputs["events"].tolist() == [len(order)] and not inputs["history"].ravel()[len(order) :].any()
    assert inputs["ago"].ravel()[: len(order)].tolist() == [round((20 - times[at]) * 1e6) for at in order]


@given(st.data())
def test_every_field_has_the_row_of_its_own_key(reader: Reader, data: st.DataObject) -> None:
    artefact, kinds = reader.artefact, reader.artefact.schema.features
    n, hour = data.draw(st.integers(1, 4)), data.draw(st.integers(0, 50))
    of_all: dict[str, Any] = {name: data.draw(VALUES) for name in kinds if data.draw(st.booleans())}
    of_each = {name: [data.draw(VALUES) for _ in range(n)] for name in kinds if data.draw(st.booleans())}
    inputs = reader.arrays(Request(3, [1] * n, hour * HOUR, of_all, of_each))
    for candidate in range(n):
        keys = [context_key("", hour % 24)]
        for name, kind in kinds.items():
            value = of_each[name][candidate] if name in of_each else of_all.get(name)
            if kind == "float32":
                number = np.array([np.nan if value is None else np.float32(value)], np.float64)
                value = int(bucket_of(number, artefact.schema.edges[name])[0])
            keys.append(context_key(name, "" if value is None else value))
        ids = of_keys(artefact, keys)
        if artefact.manifest.numeric_as == "values":
            ids[[at for at, kind in enumerate(kinds.values(), 1) if kind == "float32"]] = 0
        assert np.array_equal(inputs["context"][candidate] == 0, ids == 0)
        for found, table in rows(inputs, artefact, "context"):
            assert np.array_equal(found[candidate], table[ids])


def test_a_value_that_was_seen_lets_no_other_type_through(reader: Reader) -> None:
    name = next(name for name, kind in reader.artefact.schema.features.items() if kind == "int64")
    first = reader.arrays(Request(3, [1], 1e9, item_features={name: [1]}))
    for same in (1.0, "1"):
        again = reader.arrays(Request(3, [1], 1e9, item_features={name: [same]}))
        assert all(np.array_equal(again[key], first[key]) for key in first)
    for wrong in (True, 1.5):
        with pytest.raises(UserError, match=f"features.{name}: a whole number was expected"):
            reader.arrays(Request(3, [1], 1e9, item_features={name: [wrong]}))


def test_arrays_are_read_as_the_lists_that_they_hold(reader: Reader) -> None:
    kinds = reader.artefact.schema.features
    numbers = {name: [0.5, float("nan"), 3.0] if kind == "float32" else [1, 2, 77] for name, kind in kinds.items()}
    items, past = [2, 10**12, 3], Past([3, 2, 9], [5.0, 1.0, 7.5], [*reader.actions][:1] * 3, [6.0, 2.0, 9.0])
    listed = Request(3, items, 20.0, item_features=numbers, history=past)
    columns = Past(np.array(past.items), np.array(past.times), past.actions, np.array(past.known))
    each = {name: np.array(values) for name, values in numbers.items()}
    found = reader.arrays(Request(3, np.array(items), 20.0, item_features=each, history=columns))
    wanted = reader.arrays(listed)
    assert all(np.array_equal(found[name], wanted[name]) for name in wanted)
    with pytest.raises(UserError, match="items: a whole number was expected; got 1.5"):
        reader.arrays(Request(3, np.array([1.5]), 20.0))

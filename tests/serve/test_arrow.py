"""Bodies of Arrow: the scores of JSON, and refusals of what a few bytes could blow up."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.ipc
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.testclient import TestClient

from recdistill.serve.app import make_app
from recdistill.serve.arrow import KIND, asked
from recdistill.serve.limits import Limits
from recdistill.serve.live import Live
from recdistill.serve.refusal import RefusedError
from recdistill.serve.request import MOST_CANDIDATES, Past, Request
from recdistill.serve.scorer import Scorer
from recdistill.serve.service import Service

ABOUT = {
    "user": 3,
    "time": 1e9,
    "features": {"device": 1},
    "history": {"items": [7, 9], "times": [1e8, 2e8], "actions": ["positive", "negative"]},
}
COLUMNS = {"items": [1, 2, 3], "topic": [1, None, 2], "age_days": [0.5, None, 12.0]}
ARROW = {"content-type": KIND, "accept": KIND}


WHOLE = {"items": [1, 2, 3], "topic": [1, 7, 2], "age_days": [0.5, 3.0, 12.0], "position": [1.0, 2.0, 3.0]}


def stream(columns: Any, about: Any = ABOUT, rows: int = 2, **options: Any) -> bytes:
    table = pa.table(columns).replace_schema_metadata({"request": json.dumps(about)})
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema, options=pa.ipc.IpcWriteOptions(**options)) as writer:
        writer.write_table(table, max_chunksize=rows)
    return sink.getvalue()


@pytest.fixture(scope="module")
def client(artefact: Path) -> Iterator[TestClient]:
    with TestClient(make_app(Service(Live(artefact), Limits()))) as made:
        yield made


@pytest.mark.parametrize("rows", [2, 3])
@pytest.mark.parametrize("columns", [COLUMNS, WHOLE])
def test_the_scores_are_those_of_the_same_request(
    client: TestClient, artefact: Path, columns: dict[str, list[Any]], rows: int
) -> None:
    answer = client.post("/v1/rank", content=stream(columns, rows=rows), headers=ARROW)
    assert (answer.status_code, answer.headers["content-type"]) == (200, KIND)
    table = pa.ipc.open_stream(answer.content).read_all()
    past = Past([7, 9], [1e8, 2e8], ["positive", "negative"])
    of_items = {name: values for name, values in columns.items() if name != "items"}
    wanted = Scorer.open(artefact).rank(Request(3, [1, 2, 3], 1e9, {"device": 1}, of_items, past))
    assert np.array_equal(np.stack([table[name] for name in table.column_names], 1), wanted)
    assert table.schema.metadata == {b"model": b"teacher", b"version": b"1"}


def test_arrow_is_answered_in_json_unless_arrow_is_accepted(client: TestClient) -> None:
    found = client.post("/v1/rank", content=stream(COLUMNS), headers={"content-type": KIND})
    body = {**ABOUT, "items": [1, 2, 3], "item_features": {"topic": [1, None, 2], "age_days": [0.5, None, 12.0]}}
    assert found.json() == client.post("/v1/rank", json=body).json()
    other = client.post("/v1/rank", json=body, headers={"accept": KIND})
    assert pa.ipc.open_stream(other.content).read_all()["click"].to_pylist() == found.json()["scores"]["click"]


@pytest.mark.parametrize(
    ("columns", "about", "line"),
    [
        ({"topic": [1]}, {}, "items: a column was expected"),
        ({"items": [1], "nope": [1]}, {}, "item_features: there is no feature 'nope'"),
        ({"items": [1.5]}, {}, "items: a whole number was expected; got 1.5"),
        ({"items": [1]}, {"nope": 1}, "nope: Extra inputs"),
        ({"items": [1]}, {"items": [1]}, "items: Extra inputs"),
        ({"items": pa.array([], pa.int64())}, {}, "items: give 1 to"),
        ({"items": range(MOST_CANDIDATES + 1)}, {}, "items: give 1 to 10,000 candidates"),
        ({"items": [1], "topic": [True]}, {}, "topic: one column of whole numbers"),
        ({"items": [1], "topic": [{"a": 1}]}, {}, "topic: one column of whole numbers"),
        ({"items": [1], "topic": [[[1]]]}, {}, "topic: one column of whole numbers"),
        ({"items": [1], "topic": pa.array([None])}, {}, "topic: one column of whole numbers"),
        ({"items": pa.array(["a"]).dictionary_encode()}, {}, "items: one column of whole numbers"),
    ],
)
def test_what_cannot_be_read_is_refused_by_its_column(client: TestClient, columns: Any, about: Any, line: str) -> None:
    answer = client.post("/v1/rank", content=stream(columns, about), headers=ARROW)
    assert (answer.status_code, answer.json()["error"][: len(line)]) == (422, line)


@pytest.mark.parametrize("codec", ["zstd", "lz4"])
def test_compressed_buffers_are_refused(codec: str) -> None:
    """Four megabytes of them could be gigabytes."""
    with pytest.raises(RefusedError, match="body: buffers that are not compressed"):
        asked(stream({"items": list(range(1000))}, compression=codec), Limits())


@given(st.data())
def test_a_damaged_stream_is_refused_or_read(data: st.DataObject) -> None:
    whole = bytearray(stream({"items": ["ab", "c"], "topic": [[1, 2], None]}, {}))
    for _ in range(data.draw(st.integers(1, 3))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    try:
        asked(bytes(whole[: data.draw(st.integers(0, len(whole)))]), Limits())
    except RefusedError as error:
        assert error.status == 422


def test_a_server_without_pyarrow_says_what_to_install(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    answer = client.post("/v1/rank", content=b"", headers={"content-type": KIND})
    assert answer.status_code == 415 and "pip install pyarrow" in answer.json()["error"]

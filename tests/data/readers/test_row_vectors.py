"""Vectors that rows bring themselves: read as they are, refused with the row, drawn with their item."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from recdistill.config.load import load_text
from recdistill.data.readers.factory import open_log
from recdistill.errors import UserError
from recdistill.stream.ingest.row_checks import row_faults
from recdistill.tables.events import EventLog
from tests.support.written import log_with, opened

NAN, FLOATS = float("nan"), pl.List(pl.Float64())
OWN = {"vectors": {"text": {"column": "emb"}}}


def vectors(values: object, dtype: pl.DataType = FLOATS) -> pl.DataFrame:
    return log_with(emb=pl.Series(values, dtype=dtype))  # type: ignore[call-overload]


@pytest.mark.parametrize("dtype", [pl.List(pl.Float64()), pl.List(pl.Int16()), pl.Array(pl.Float32(), 2)])
def test_rows_keep_their_vectors(dtype: pl.DataType, tmp_path: Path) -> None:
    log = opened(vectors([[1, 2], None, [3, 4], [5, 6]], dtype), tmp_path, more=OWN)
    rows = pl.concat(log.batches())
    assert rows["vector_text"].to_list() == [[1, 2], None, [3, 4], [5, 6]]
    assert rows.schema["vector_text"] == pl.List(pl.Float32)
    assert log.schema.row_vectors == {"text": ("item", 2, pytest.approx((91 / 6) ** -0.5))}
    EventLog.create(tmp_path / "events", log.schema).append(rows, writer="t", sequence=0)
    assert EventLog.open(tmp_path / "events").schema == log.schema


@pytest.mark.parametrize(
    ("values", "part"),
    [
        ([[1.0, 2.0], [3.0], [4.0, 5.0], [5.0, 6.0]], "row 1, column 'emb': not a vector of 2 finite numbers"),
        ([[1.0, 2.0], [3.0, 4.0], [4.0, NAN], [5.0, 6.0]], "row 2, column 'emb': not a vector of 2 finite numbers"),
        ([[1.0, 2.0], [3.0, None], [4.0, 5.0], [5.0, 6.0]], "row 1, column 'emb': not a vector of 2 finite numbers"),
        ([[1.0, 2.0], [3.0, 1e39], [4.0, 5.0], [5.0, 6.0]], "row 1, column 'emb': not a vector of 2 finite numbers"),
        ([None] * 4, "column 'emb' (data.vectors.text.column) holds no vector"),
    ],
)
def test_what_is_no_vector_is_refused_with_its_row(values: object, part: str, tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        list(opened(vectors(values), tmp_path, more=OWN).batches())
    assert part in str(caught.value) and "\n" not in str(caught.value)


def test_a_column_that_is_not_there_or_holds_no_lists_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no column 'emb' .data.vectors.text.column."):
        opened(log_with(), tmp_path, more=OWN)
    with pytest.raises(UserError, match=r"column 'emb' .data.vectors.text.column. holds String, not lists of numbers"):
        opened(log_with(emb="[1, 2]"), tmp_path, more=OWN)


def test_wide_vectors_are_read_fewer_rows_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recdistill.tables.schema.VECTOR_NUMBERS", 5)
    log = opened(vectors([[1, 2], None, [3, 4], [5, 6]]), tmp_path, more=OWN)
    assert [len(chunk) for chunk in log.batches()] == [2, 2]


@pytest.mark.parametrize("vector", ["{path: x}", "{key: x}", "{column: x, separator: ';'}"])
def test_half_a_table_is_refused(vector: str) -> None:
    with pytest.raises(UserError, match=r"path and key|no path is given"):
        load_text(f"name: x\ndata: {{path: y, vectors: {{v: {vector}}}}}")


def test_logs_that_are_no_table_have_no_vectors_of_their_own() -> None:
    config = load_text("name: x\ndata: {reader: simulator, vectors: {v: {column: emb}}}")
    with pytest.raises(UserError, match="data.vectors.v: belongs to reader: table"):
        open_log(config.data, None)


def test_the_table_and_the_stream_take_no_other_vectors(tmp_path: Path) -> None:
    log = opened(vectors([[1.0, 2.0]] * 4), tmp_path, more=OWN)
    rows = pl.concat(log.batches())
    wrong = rows.with_columns(vector_text=pl.Series([[1.0, 2.0], None, [1.0], [1.0, NAN]], dtype=pl.List(pl.Float32)))
    with pytest.raises(UserError, match="row 2, column 'vector_text': must hold 2 finite numbers or nothing"):
        EventLog.create(tmp_path / "events", log.schema).append(wrong, writer="t", sequence=0)
    reasons = row_faults(wrong, "events", log.schema)
    assert reasons.is_null().to_list() == [True, True, False, False]
    assert reasons[2] == "column 'vector_text': must hold 2 finite numbers or nothing"


def test_a_sampled_negative_has_its_own_items_vector_and_its_positives_user(tmp_path: Path) -> None:
    frame = log_with(400, item_id=pl.int_range(400, eager=True) % 7, user_id=pl.int_range(400, eager=True) % 50)
    art, mood = (pl.concat_list(pl.col(name).cast(pl.Float64)) for name in ("item_id", "user_id"))
    given = {"art": {"column": "art"}, "mood": {"column": "mood", "of": "user"}}
    more = {"vectors": given, "negatives": {"per_positive": 2}}
    log = opened(frame.with_columns(art=art, mood=mood), tmp_path, more=more, tasks={"click": 1})
    rows = pl.concat(log.batches())
    assert rows["label_click"].n_unique() == 2
    assert (rows["vector_art"].list.first() == rows["item_id"]).all()
    assert (rows["vector_mood"].list.first() == rows["user_id"]).all()

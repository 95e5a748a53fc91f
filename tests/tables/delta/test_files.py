"""Data files: every flipped bit is seen, and a damaged one costs no other version of the table."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recdistill.errors import UserError
from recdistill.tables.delta.commits import open_delta, parts_of
from tests.support.tables import events, followed, ids_of, make_events, make_predictions, predicted


def test_no_flipped_bit_of_a_page_is_read_as_a_value(tmp_path: Path) -> None:
    log = make_predictions(tmp_path / "p")
    rows = predicted(range(2_000)).with_columns(pl.col("time").min())
    log.append(rows, model="m", version=1, kind="imported", writer="w", sequence=0)
    truth = pl.concat(log.batches())
    path = log.path / log.parts()[0].path
    raw, draw, refused = path.read_bytes(), random.Random(0), 0
    for _ in range(150):
        bad = bytearray(raw)
        bad[draw.randrange(len(raw))] ^= 1 << draw.randrange(8)
        path.write_bytes(bad)
        try:
            assert pl.concat(log.batches()).equals(truth)
        except UserError as error:
            refused += 1
            assert str(error).startswith(f"{path}: damaged Parquet file: ") and "\n" not in str(error)
    assert refused > 120
    path.write_bytes(raw)
    assert pl.concat(log.batches()).equals(truth)


@pytest.mark.parametrize("keep", [0, 3, 500])
def test_a_truncated_file_is_named_and_older_versions_stay_readable(tmp_path: Path, keep: int) -> None:
    log = make_events(tmp_path / "t", [range(5), range(5, 10)])
    path = log.path / log.parts()[1].path
    path.write_bytes(path.read_bytes()[:keep])
    for read in (
        lambda: list(log.batches()),
        lambda: list(followed(log, 0)),
        lambda: log.append(events([7]), writer="w", sequence=2),
    ):
        with pytest.raises(UserError, match=f"^{log.path}[^\n]*$"):
            read()
    assert ids_of(log.batches(version=1)) == list(range(5))
    assert log.version == 2


@pytest.mark.parametrize(
    ("rows", "fault"),
    [
        (lambda rows: rows.drop_columns(["feature_device"]), "its column 'feature_device' is missing, not int64"),
        (
            lambda rows: rows.set_column(0, "sample_id", rows["sample_id"].cast("int32")),
            "its column 'sample_id' is int32, not int64",
        ),
    ],
)
def test_a_file_of_other_columns_is_refused(tmp_path: Path, rows: Callable[[pa.Table], pa.Table], fault: str) -> None:
    log = make_events(tmp_path / "t", [range(5)])
    path = log.path / log.parts()[0].path
    pq.write_table(rows(pq.read_table(path, partitioning=None)), path)
    with pytest.raises(UserError, match=f"^{path}: damaged Parquet file: {fault}$"):
        list(log.batches())


def test_files_that_spark_merged_are_read(tmp_path: Path) -> None:
    log = make_events(tmp_path / "t", [range(5)])
    truth = pl.concat(log.batches())
    path = log.path / log.parts()[0].path
    pq.write_table(pq.read_table(path, partitioning=None), path, use_deprecated_int96_timestamps=True)
    assert pl.concat(log.batches()).equals(truth)


def test_a_column_that_is_not_there_is_refused(tmp_path: Path) -> None:
    log = make_events(tmp_path / "t", [range(5)])
    with pytest.raises(UserError, match="no column 'sample'; did you mean 'sample_id'?"):
        list(log.batches(columns=["sample"]))
    assert next(log.batches(columns=["time", "feature_device"])).columns == ["time", "feature_device"]


def test_a_commit_is_one_file_however_many_its_days_and_ids_are_packed(tmp_path: Path) -> None:
    log = make_events(tmp_path / "t", [range(15)])
    (first,) = log.parts()
    assert "/" not in first.path and len(pq.read_table(log.path / first.path, partitioning=None)) == 15
    columns = pq.read_metadata(log.path / first.path).row_group(0).to_dict()["columns"]
    encodings = {column["path_in_schema"]: column["encodings"] for column in columns}
    assert (
        "DELTA_BINARY_PACKED" in encodings["sample_id"] and "RLE_DICTIONARY" in encodings["feature_tags.list.element"]
    )


def test_a_file_knows_the_range_of_its_ids_and_times(tmp_path: Path) -> None:
    log = make_events(tmp_path / "t", [range(15), range(15, 18)])
    day = 86_400_000_000
    start = int(datetime(2024, 1, 1, tzinfo=UTC).timestamp()) * 1_000_000
    for parts in (log.parts(), parts_of(open_delta(log.path))):  # from the commits, and from the library's snapshot
        assert [(part.low, part.high) for part in parts] == [(0, 14), (15, 17)]
        assert parts[0].oldest == start and parts[0].newest == start + day + 4_000_000 + 999
        assert parts[0].may_hold_times(start + day, start + 9 * day) and not parts[0].may_hold_times(0, start - 1)
        assert not parts[1].may_hold_times(0, start + day)


def test_small_files_are_read_as_one(tmp_path: Path) -> None:
    log = make_events(tmp_path / "t", [range(3 * k, 3 * k + 3) for k in range(5)])
    assert [rows["sample_id"].to_list() for rows in log.batches(rows=7)] == [[*range(6)], [*range(6, 12)], [12, 13, 14]]
    assert len(list(log.batches())) == 1 and [len(rows) for rows in log.batches(rows=2)] == [2, 1] * 5


def test_batches_hold_at_most_the_rows_asked_for(tmp_path: Path) -> None:
    log = make_predictions(tmp_path / "p")
    log.append(predicted(range(10)), model="m", version=3, kind="imported", writer="w", sequence=0)
    assert [len(rows) for rows in log.of("m", rows=4)] == [4, 4, 2]


def test_a_page_that_is_passed_over_is_missed(tmp_path: Path) -> None:
    log = make_predictions(tmp_path / "p")
    log.append(
        predicted(range(200)).with_columns(pl.col("time").min()),
        model="m",
        version=1,
        kind="imported",
        writer="w",
        sequence=0,
    )
    path = log.path / log.parts()[0].path
    raw, truth, refused = path.read_bytes(), pl.concat(log.batches()), 0
    for at in (at for at in range(len(raw)) if raw[at : at + 3] == b"\x15\x00\x15"):  # Thrift: page type 0, then sizes
        bad = bytearray(raw)
        bad[at + 1] ^= 8  # a type of page that there is not
        path.write_bytes(bad)
        try:
            assert pl.concat([truth[:0], *log.batches()]).equals(truth)
        except UserError as error:
            refused += "it lacks 200 of its 200 rows" in str(error)
    assert refused

"""Logs as public data sets have them, without a reader of their own: read right, or refused with the key that helps."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recdistill.config.data import ColumnsConfig
from recdistill.config.load import load_text
from tests.data.readers.test_tabular import START, read, refused

N = 60


def ratings(form: str, folder: Path) -> ColumnsConfig:
    """Write reviews of which one lies before 1970, as Amazon's do; return their mapping."""
    rows = pl.DataFrame(
        {
            "user_id": [f"A{k % 7}" for k in range(N)],
            "parent_asin": [f"B00{k % 5}" for k in range(N)],
            "rating": [float(k % 5 + 1) for k in range(N)],
            "timestamp": [-1000 if k == 5 else 1_370_000_000_000 + k for k in range(N)],
        }
    )
    rows.write_csv(folder / "log.csv") if form == "csv" else rows.write_ndjson(folder / "log.jsonl")
    like = {"like": {"column": "rating", "at_least": 4}}
    return ColumnsConfig(item="parent_asin", time="timestamp", time_unit="ms", tasks=like)


@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_reviews_of_before_1970(form: str, tmp_path: Path) -> None:
    columns = ratings(form, tmp_path)
    text = refused(tmp_path, f"log.{form}", columns, sort=True)
    assert "row 5, column 'timestamp': lies before 1970" in text and "data.drop_missing: true" in text
    found = read(tmp_path, f"log.{form}", columns, drop_missing=True)
    assert len(found) == N - 1 and found["user_id"][0] == "A0"
    assert found["label_like"].sum() == sum(k % 5 >= 3 for k in range(N) if k != 5)


def test_watching_of_which_some_has_no_time(tmp_path: Path) -> None:
    lines = (f"{k % 7},{k % 11},{'' if k % 10 == 3 else START + k + 0.438},{0.1 * (k % 9):.1f}\n" for k in range(N))
    (tmp_path / "log.csv").write_text("user_id,video_id,timestamp,watch_ratio\n" + "".join(lines))
    columns = ColumnsConfig(
        item="video_id", time="timestamp", tasks={"watched": {"column": "watch_ratio", "at_least": 0.5}}
    )
    text = refused(tmp_path, "log.csv", columns, sort=True)
    assert "row 3, column 'timestamp': must not be empty; data.drop_missing: true" in text
    found = read(tmp_path, "log.csv", columns, sort=True, drop_missing=True)
    assert len(found) == N - 6 and found["time"][0].microsecond == 438_000
    assert found["label_watched"].sum() == sum(k % 9 >= 5 for k in range(N) if k % 10 != 3)


def listening() -> pl.DataFrame:
    """Return events whose kind is text, user by user, as Yambda has them."""
    return pl.DataFrame(
        {
            "uid": [k // 20 for k in range(N)],
            "timestamp": [k % 20 * 5 for k in range(N)],
            "item_id": [k % 9 for k in range(N)],
            "event_type": [["listen", "like", "dislike"][k % 3] for k in range(N)],
        }
    )


def test_a_kind_of_event_is_a_label_by_its_text(tmp_path: Path) -> None:
    listening().write_parquet(tmp_path / "log.parquet")
    columns = ColumnsConfig(user="uid", time="timestamp", tasks={"like": "event_type"})
    text = refused(tmp_path, "log.parquet", columns, sort=True)
    assert "tasks: {like: {column: event_type, equals: TEXT}}; got 'listen'" in text
    like = columns.model_copy(update={"tasks": load_text(LIKE).data.columns.tasks})
    assert read(tmp_path, "log.parquet", like, sort=True)["label_like"].sum() == 20


LIKE = "name: x\ndata: {columns: {tasks: {like: {column: event_type, equals: like}}}}"


def test_a_row_per_user_is_refused_with_what_to_write(tmp_path: Path) -> None:
    listening().group_by("uid", maintain_order=True).agg(pl.all()).write_parquet(tmp_path / "log.parquet")
    columns = ColumnsConfig(user="uid", time="timestamp", tasks={"like": "event_type"})
    text = refused(tmp_path, "log.parquet", columns)
    assert "column 'timestamp' (data.columns.time) holds List(Int64)" in text and "a row for each event" in text
    flat = listening().with_columns(tag=pl.lit(["a"]))
    flat.write_parquet(tmp_path / "log.parquet")
    assert "name it under lists" in refused(
        tmp_path, "log.parquet", columns.model_copy(update={"categorical": ["tag"]})
    )


def test_a_log_without_times_or_users_names_the_key(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("user_id,item_id,click\n1,2,0\n")
    columns = ColumnsConfig(tasks={"click": "click"})
    assert "no column 'time' (data.columns.time)" in refused(tmp_path, "log.csv", columns)
    assert "where the log has none, set time: null" in refused(tmp_path, "log.csv", columns)
    assert len(read(tmp_path, "log.csv", columns.model_copy(update={"time": None}))) == 1


@pytest.mark.parametrize(
    ("values", "positive"),
    [([-1, 1, -1], {"equals": 1}), ([0.37, 35.0, 0.0], {"at_least": 30})],
)
def test_numbers_are_labels_by_what_a_positive_is(
    values: list[float], positive: dict[str, float], tmp_path: Path
) -> None:
    rows = pl.DataFrame({"time": [START] * 3, "user_id": [1] * 3, "item_id": [1] * 3, "watch": values})
    rows.write_parquet(tmp_path / "log.parquet")
    text = refused(tmp_path, "log.parquet", ColumnsConfig(tasks={"long": "watch"}))
    assert "tasks: {long: {column: watch, equals: 1}}; or at_least: a number; or regression: log, for values" in text
    columns = ColumnsConfig(tasks={"long": {"column": "watch", **positive}})
    assert read(tmp_path, "log.parquet", columns)["label_long"].to_list() == [0, 1, 0]


@pytest.mark.parametrize("header", [True, False])
def test_a_mark_of_byte_order_and_ends_of_windows_are_no_part_of_a_value(header: bool, tmp_path: Path) -> None:
    names = ["user_id", "item_id", "time", "label", "title"]
    text = ",".join(names) + "\n" if header else ""
    text += "".join(f'{k % 3},{k},{START + k},{"True" if k % 3 else "False"},"a, ""b""\nc"\n' for k in range(N))
    (tmp_path / "log.csv").write_bytes(b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode())
    found = read(tmp_path, "log.csv", ColumnsConfig(categorical=["title"]), **({} if header else {"header": names}))
    assert found["user_id"].to_list() == [k % 3 for k in range(N)]
    assert found["label_click"].to_list() == [float(k % 3 > 0) for k in range(N)]
    assert found["feature_title"].unique().to_list() == ['a, "b"\r\nc']


def test_types_of_arrow_that_few_tools_write(tmp_path: Path) -> None:
    columns = {
        "time": pa.array(range(START, START + N)),
        "user_id": pa.array([f"u{k % 7}" for k in range(N)]).dictionary_encode(),
        "item_id": pa.array([f"i{k % 7}" for k in range(N)], pa.large_string()),
        "label": pa.array([Decimal(k % 2) for k in range(N)], pa.decimal128(3, 1)),
        "view": pa.array([f"v{k % 7}" for k in range(N)], pa.string_view()),
        "tags": pa.array([["a"]] * N, pa.list_(pa.dictionary(pa.int32(), pa.string()))),
    }
    pq.write_table(pa.table(columns), tmp_path / "log.parquet")
    found = read(tmp_path, "log.parquet", ColumnsConfig(categorical=["view"], lists={"tags": ","}))
    assert found["user_id"][8] == "u1" and found["item_id"][8] == "i1" and found["feature_view"][8] == "v1"
    assert found["label_click"].sum() == N // 2 and found["feature_tags"].to_list() == [["a"]] * N

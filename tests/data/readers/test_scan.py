"""Many files are the log that they hold together, whatever their form, number, columns and folders."""

from __future__ import annotations

import gzip
import os
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow.dataset import dataset

from recdistill.config.data import BehaviorsConfig, ColumnsConfig, DataConfig
from recdistill.data.readers.factory import open_log
from recdistill.data.readers.new_rows import source_of
from recdistill.data.readers.scan import scan_file
from tests.data.readers.test_tabular import COLUMNS, START, read, refused, table


def put(frame: pl.DataFrame, path: Path) -> None:
    """Write `frame` in the form that the name says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    form = next(suffix for suffix in path.suffixes if suffix in (".parquet", ".csv", ".tsv", ".jsonl", ".ndjson"))
    if form == ".parquet":
        frame.write_parquet(path)
        return
    text = (
        frame.write_ndjson()
        if form in (".jsonl", ".ndjson")
        else frame.write_csv(separator="\t" if form == ".tsv" else ",")
    )
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(text.encode()))
    elif path.suffix == ".zst":
        path.write_bytes(pa.compress(text.encode(), codec="zstd", asbytes=True))
    else:
        path.write_text(text)


def parts(folder: Path, form: str, names: tuple[str, ...] = ("part-2", "part-9", "part-10")) -> Path:
    """Write the small log in files of two rows, and what Spark and Hadoop leave next to them."""
    for k, name in enumerate(names):
        put(table()[2 * k : 2 * k + 2], folder / f"{name}.{form}")
    for name in ("_SUCCESS", "_committed_1", ".part-2.crc", f"empty.{form}"):
        (folder / name).touch()
    return folder


FORMS = ["parquet", "csv", "tsv", "jsonl", "ndjson", "csv.gz", "csv.zst", "jsonl.gz", "jsonl.zst"]


@pytest.mark.parametrize("form", FORMS)
def test_a_folder_or_a_pattern_is_its_files_in_the_order_of_their_names(form: str, tmp_path: Path) -> None:
    put(table(), tmp_path / f"whole.{form}")
    whole = read(tmp_path, f"whole.{form}")
    parts(tmp_path / "log", form)
    assert whole["sample_id"].to_list() == [10, 11, 12, 13, 14, 15] and whole["feature_price"].to_list()[1] == 1.5
    for path in ("log", "log/part-*", "l?g/*[0-9]." + form):
        assert read(tmp_path, path).equals(whole)
    assert read(tmp_path, "log", behaviors=BehaviorsConfig(path="log")).equals(whole)


@pytest.mark.parametrize("form", ["parquet", "csv", "jsonl"])
def test_columns_may_stand_in_another_order_or_be_missing_which_is_counted(form: str, tmp_path: Path) -> None:
    put(table()[:2], tmp_path / "log" / f"a.{form}")
    put(table()[2:4].select(reversed(table().columns)), tmp_path / "log" / f"b.{form}")
    put(table()[4:].drop("price", "device"), tmp_path / "log" / f"c.{form}")
    log = open_log(DataConfig(path="log", columns=COLUMNS), tmp_path)
    rows = pl.concat(log.batches())
    assert rows["sample_id"].to_list() == [10, 11, 12, 13, 14, 15] and rows["label_click"].to_list() == [0, 1] * 3
    assert rows["feature_price"].to_list() == [0, 1.5, 3, 4.5, None, None]
    if form != "jsonl":  # where a key that is not there is a value that is missing
        assert [line.partition("log: ")[2] for line in log.notes()] == [
            "column 'device' is not in 1 of 3 files; it is empty there",
            "column 'price' is not in 1 of 3 files; it is empty there",
        ]
    put(table()[4:].drop("user_id"), tmp_path / "log" / f"c.{form}")
    assert f"c.{form}: row 0, column 'user_id': must not be empty" in refused(tmp_path, "log")


def test_what_the_folders_of_files_say_is_a_column(tmp_path: Path) -> None:
    for k, folder in enumerate(("day=9/code=01", "day=10/code=x%2Fy", "day=11/code=__HIVE_DEFAULT_PARTITION__")):
        put(table()[2 * k : 2 * k + 2], tmp_path / "log" / folder / "part-0.parquet")
    rows = read(tmp_path, "log", ColumnsConfig(categorical=["day", "code"]))
    assert (
        rows["feature_day"].to_list() == [9, 9, 10, 10, 11, 11]
        and rows["feature_code"].to_list() == ["01"] * 2 + ["x/y"] * 2 + [None] * 2
    )
    assert rows["item_id"].to_list() == list(range(6))
    assert (
        read(tmp_path, "log/day=*/*/*.parquet", ColumnsConfig(categorical=["day"]))["feature_day"].to_list()
        == rows["feature_day"].to_list()
    )


@pytest.mark.parametrize(
    ("one", "other", "found"),
    [
        (pl.Int32, pl.Int64, [0, 1, 2, 3, 4, 5]),
        (pl.UInt8, pl.Int16, [0, 1, 2, 3, 4, 5]),
        (pl.Null, pl.Int64, [None, None, None, 3, 4, 5]),
        (pl.String, pl.Categorical, ["0", "1", "2", "3", "4", "5"]),
        (pl.Int64, pl.String, "column 'device' is String, but Int64 in a.parquet; write it alike"),
        (pl.Boolean, pl.Int64, "column 'device' is Int64, but Boolean in a.parquet; write it alike"),
        (pl.Int64, pl.Date, "column 'device' is Date, but Int64 in a.parquet; write it alike"),
    ],
)
def test_files_may_type_a_column_differently_where_nothing_is_lost(
    one: pl.DataType, other: pl.DataType, found: list[object] | str, tmp_path: Path
) -> None:
    at = pl.Series("device", [0, 1, 2, 3, 4, 5])
    made = lambda kind: at.cast(pl.String).cast(kind) if kind == pl.Categorical else at.cast(kind)  # noqa: E731
    first = pl.Series("device", [None] * 6) if one == pl.Null else made(one)
    put(table().with_columns(first)[:3], tmp_path / "log" / "a.parquet")
    put(table().with_columns(made(other))[3:], tmp_path / "log" / "b.parquet")
    if isinstance(found, str):
        assert found in refused(tmp_path, "log")
    else:
        assert read(tmp_path, "log")["feature_device"].to_list() == found


def test_numbers_that_are_whole_in_one_file_and_not_in_another_lose_no_digit(tmp_path: Path) -> None:
    put(table(2, price=pl.Series([2**53 + 1, 7])), tmp_path / "log" / "a.parquet")
    put(table(2, time=pl.Series([START + 90, START + 91]), price=pl.Series([0.5, 7.0])), tmp_path / "log" / "b.parquet")
    source = scan_file(tmp_path / "log")
    assert source.kinds["price"] == pl.Float64
    assert pl.concat(source.chunks(["price"]))["price"].to_list() == [str(2**53 + 1), "7", "0.5", "7.0"]


def test_times_of_several_precisions_and_zones_are_one_column(tmp_path: Path) -> None:
    times = pl.from_epoch(pl.Series([START, START + 60, START + 120]))
    put(table(3).with_columns(time=times.cast(pl.Datetime("ms")))[:1], tmp_path / "log" / "a.parquet")
    there = times.dt.replace_time_zone("UTC").dt.convert_time_zone("Asia/Tokyo")
    put(table(3).with_columns(time=there)[1:2], tmp_path / "log" / "b.parquet")
    put(table(3).with_columns(time=times.cast(pl.Datetime("ns")))[2:], tmp_path / "log" / "c.parquet")
    assert read(tmp_path, "log")["time"].dt.epoch("s").to_list() == [START, START + 60, START + 120]


def test_a_header_alone_types_no_column(tmp_path: Path) -> None:
    put(table(0), tmp_path / "log" / "a.csv")
    put(table(), tmp_path / "log" / "b.csv")
    assert read(tmp_path, "log")["user_id"].dtype == pl.Int64
    put(table(0), tmp_path / "log" / "b.csv")
    assert open_log(DataConfig(path="log"), tmp_path).schema.tasks == ("click",)


def test_a_key_of_json_that_comes_later_counts_in_every_file(tmp_path: Path) -> None:
    late = table(300).with_columns(price=pl.when(pl.int_range(pl.len()) >= 250).then(1.5))
    text = "".join(line.replace(',"price":null', "") + "\n" for line in late.write_ndjson().splitlines())
    lines = text.splitlines(keepends=True)
    (tmp_path / "log").mkdir()
    (tmp_path / "log" / "a.jsonl").write_text("".join(lines[:100]))
    (tmp_path / "log" / "b.jsonl").write_text("".join(lines[100:280]))  # the key stands behind the first hundred rows
    (tmp_path / "log" / "c.jsonl").write_text("".join(lines[280:]))
    assert read(tmp_path, "log")["feature_price"].to_list() == [None] * 250 + [1.5] * 50


def _mixed(folder: Path) -> None:
    put(table(), folder / "a.parquet")
    put(table(), folder / "b.csv")


def _hudi(folder: Path) -> None:
    put(table(), folder / "a.parquet")
    (folder / ".hoodie").mkdir()


def _extra(folder: Path) -> None:
    put(table(), folder / "a.parquet")
    (folder / "README.md").write_text("about")


def _one(name: str, content: bytes = b"x") -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        folder.mkdir()
        (folder / name).write_bytes(content)

    return make


@pytest.mark.parametrize(
    ("make", "fault"),
    [
        (lambda folder: folder.mkdir(), "log: holds no file with rows; check data.path and --data"),
        (_one("_SUCCESS"), "log: holds no file with rows"),
        (_one("a.csv", b""), "log: holds no file with rows"),
        (_mixed, "log: holds files of several kinds (a.parquet, b.csv); name the files of one kind by a pattern"),
        (_extra, "log: holds README.md, no Parquet, CSV or JSON lines; name the files of one kind by a pattern"),
        (_hudi, "log: a table of Hudi, whose files alone are not its rows; export it as Parquet"),
        (_one("a.csv.bz2"), "a.csv.bz2: packed as .bz2, which is not read; unpack it, or pack it as .gz or .zst"),
        (_one("a.parquet.gz"), "a.parquet.gz: only .csv, .tsv and .jsonl are read from .gz; unpack it"),
        (_one("a.jsonl", b'[{"a": 1}]'), "a.jsonl: one list of JSON; write each row as an object on a line of its own"),
        (_one("a.jsonl", b'{"a": '), "a.jsonl: cannot be read as a table"),
        (_one("a.csv.gz", gzip.compress(b"a,b\n1,2\n")[:-4]), "a.csv.gz: cannot be read as a table"),
    ],
)
def test_what_is_no_log_is_refused_in_one_line(make: Callable[[Path], None], fault: str, tmp_path: Path) -> None:
    make(tmp_path / "log")
    assert fault in refused(tmp_path, "log")


def test_a_pattern_without_files_and_a_pipe_are_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.csv")
    (tmp_path / "log.dat").write_text("1,2")
    assert "log.dat: no Parquet, and no text by its name; call text .csv, .tsv or .jsonl" in refused(
        tmp_path, "log.dat"
    )
    assert "log/*.parquet: no file matches the pattern" in refused(tmp_path, "log/*.parquet")
    assert "pipe.csv: not a file that can be read more than once" in refused(tmp_path, "pipe.csv")


def test_a_wrong_row_is_named_as_it_stands_in_its_file(tmp_path: Path) -> None:
    wrong = table(label=pl.Series([0, 1, 0, 7, 0, 1]))
    for k in range(3):
        put(wrong[2 * k : 2 * k + 2], tmp_path / "log" / f"{k}.parquet")
    assert "log/1.parquet: row 1, column 'label': must be 0, 1 or empty" in refused(tmp_path, "log")
    assert "log/1.parquet: row 1, column 'label': must be 0, 1 or empty" in refused(tmp_path, "log", sort=True)
    put(table()[:2], tmp_path / "log" / "1.parquet")
    text = refused(tmp_path, "log", ColumnsConfig())
    assert "log/1.parquet: row 0, column 'time': earlier than the row before" in text
    twice = table(id=pl.Series([10, 11, 13, 12, 14, 12]))
    for k in range(3):
        put(twice[2 * k : 2 * k + 2], tmp_path / "log" / f"{k}.parquet")
    assert "log/1.parquet: row 1, column 'id': a sample id may stand once" in refused(tmp_path, "log")


def test_a_name_with_the_signs_of_a_pattern_is_itself(tmp_path: Path) -> None:
    for form in ("parquet", "csv", "jsonl"):
        put(table(), tmp_path / f"log[1]*.{form}")
        assert len(read(tmp_path, f"log[1]*.{form}")) == 6


def test_appends_of_another_engine_are_read_in_the_order_of_versions(tmp_path: Path) -> None:
    path = str(tmp_path / "log")
    for k in range(6):
        write_deltalake(path, table()[k : k + 1].to_arrow(), mode="append")
    assert read(tmp_path, "log")["sample_id"].to_list() == [10, 11, 12, 13, 14, 15]
    more = table(8)[6:].with_columns(extra=pl.lit("x"))
    write_deltalake(path, more.to_arrow(), mode="append", schema_mode="merge")
    rows = read(tmp_path, "log", ColumnsConfig(categorical=["extra"]))
    assert rows["item_id"].to_list() == list(range(8)) and rows["feature_extra"].to_list() == [None] * 6 + ["x"] * 2
    DeltaTable(path).delete("item_id = 3")
    assert read(tmp_path, "log", sort=True)["item_id"].to_list() == [0, 1, 2, 4, 5, 6, 7]


def test_partition_columns_of_a_delta_table_are_columns(tmp_path: Path) -> None:
    frame = table().with_columns(day=pl.Series([1, 1, 1, 2, 2, 2]).cast(pl.Int32), on=pl.lit(True))
    write_deltalake(str(tmp_path / "log"), frame.to_arrow(), partition_by=["day", "on"])
    rows = read(tmp_path, "log", ColumnsConfig(sample_id="id", categorical=["day", "on"]))
    assert rows["sample_id"].to_list() == [10, 11, 12, 13, 14, 15]
    assert rows["feature_day"].to_list() == [1, 1, 1, 2, 2, 2] and rows["feature_on"].to_list() == [1] * 6


def test_a_folder_of_one_file_names_that_file(tmp_path: Path) -> None:
    put(table(label=pl.Series([0, 1, 0, 7, 0, 1])), tmp_path / "log" / "only.csv")
    assert "log/only.csv: row 3, column 'label': must be 0, 1 or empty" in refused(tmp_path, "log")
    assert [path.name for path in scan_file(tmp_path / "log").source.files] == ["only.csv"]


@given(
    cuts=st.lists(st.integers(0, 30), max_size=6),
    rows=st.integers(1, 40),
    form=st.sampled_from(["parquet", "csv", "jsonl"]),
)
@settings(max_examples=25, deadline=None)
def test_however_a_log_is_cut_it_is_the_same(
    cuts: list[int], rows: int, form: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder, frame = tmp_path_factory.mktemp("cut"), table(30)
    edges = [0, *sorted(cuts), 30]
    for k, (low, high) in enumerate(zip(edges, edges[1:], strict=False)):
        put(frame[low:high], folder / f"{k}.{form}")
    chunks = list(scan_file(folder).chunks(frame.columns, rows=rows))
    assert all(0 < len(chunk) <= rows for chunk in chunks)
    whole = pl.concat(chunks).select(frame.columns)
    assert whole.cast(frame.schema).equals(frame)  # type: ignore[arg-type]


def test_datasets_of_arrow_and_whatever_makes_a_frame_are_logs(tmp_path: Path) -> None:
    parts(tmp_path / "log", "parquet")
    whole = dataset(tmp_path / "log", exclude_invalid_files=True)

    class HuggingFace:
        def to_polars(self) -> pl.DataFrame:
            return table()

    for source in (whole, HuggingFace()):
        assert pl.concat(source_of(source).chunks(["id"]))["id"].sort().to_list() == [10, 11, 12, 13, 14, 15]


def test_a_quote_that_swallows_the_rows_into_a_name_gives_a_short_line(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text('user_id,item_id,label,"time\n' + "1,2,0,1700000000\n" * 100 + '"\n')
    text = refused(tmp_path, "log.csv", ColumnsConfig())
    assert "no column 'time' (data.columns.time)" in text and len(text) < 400 + len(str(tmp_path))

"""Iceberg tables that pyiceberg wrote: their rows come in the order of snapshots, whatever happened to the table."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import recdistill as rd
from recdistill.config.data import DataConfig
from recdistill.data.readers.factory import open_log
from recdistill.data.readers.iceberg import metadata_of, path_of
from recdistill.data.readers.new_rows import source_of
from recdistill.data.readers.scan import scan_file
from recdistill.errors import UserError


def rows(first: int, count: int = 3) -> pl.DataFrame:
    time = range(first, first + count)
    columns = {"user_id": [f"u{k % 2}" for k in time], "item_id": [k % 3 for k in time], "label": [k % 2 for k in time]}
    return pl.DataFrame({"time": time, **columns})


def read(path: Path) -> pl.DataFrame:
    """Return the rows of a table, in chunks as ingest reads them."""
    source = scan_file(path)
    return pl.concat(source.chunks(list(source.kinds), rows=2)).drop("row of the file", strict=False)


@pytest.fixture
def table(tmp_path: Path) -> Any:
    """Return an empty Iceberg table of its own catalog, at tmp_path / n / log."""
    catalogs = pytest.importorskip("pyiceberg.catalog.sql")
    catalog = catalogs.SqlCatalog("c", uri="sqlite:///:memory:", warehouse=f"file://{tmp_path}")
    catalog.create_namespace("n")
    return catalog.create_table("n.log", schema=rows(0).to_arrow().schema)


def folder_of(table: Any) -> Path:
    return Path(table.location().removeprefix("file://"))


def test_rows_come_in_the_order_of_snapshots(table: Any) -> None:
    for k in range(12):
        table.append(rows(3 * k).to_arrow())
    path, metadata = folder_of(table), path_of(table)
    assert metadata is not None and metadata == metadata_of(path) and metadata.name.startswith("00012-")
    assert read(path)["time"].to_list() == read(metadata)["time"].to_list() == list(range(36))
    older = next(path.glob("metadata/00003-*"))
    assert read(older)["time"].to_list() == list(range(9))
    schema = open_log(DataConfig(path=str(path)), None)
    (chunk,) = schema.batches()
    assert chunk["user_id"].to_list() == [f"u{k % 2}" for k in range(36)]


def test_its_version_is_the_snapshot(table: Any) -> None:
    versions = []
    for k in range(2):
        table.append(rows(3 * k).to_arrow())
        versions.append(scan_file(folder_of(table)).source.version)
    snapshots = [snapshot.snapshot_id for snapshot in table.snapshots()]
    assert versions == [f"{table.metadata.table_uuid} {snapshot}" for snapshot in snapshots]


def test_a_table_without_rows_has_columns(table: Any) -> None:
    source = scan_file(folder_of(table))
    assert list(source.kinds) == rows(0).columns and list(source.chunks(["time"])) == []


def test_a_column_that_came_later_is_empty_before(table: Any) -> None:
    table.append(rows(0).to_arrow())
    with table.update_schema() as update:
        update.union_by_name(rows(0).with_columns(price=pl.lit(1.5)).to_arrow().schema)
    table.append(rows(3).with_columns(price=pl.lit(1.5)).to_arrow())
    assert read(folder_of(table))["price"].to_list() == [None] * 3 + [1.5] * 3


def test_deleted_rows_and_renamed_columns_are_as_the_table_says(table: Any) -> None:
    table.append(rows(0).to_arrow())
    with table.update_schema() as update:
        update.rename_column("label", "click")
    table.append(rows(3).rename({"label": "click"}).to_arrow())
    found = read(folder_of(table))
    assert sorted(found["time"]) == list(range(6)) and found.sort("time")["click"].to_list() == [0, 1] * 3
    table.delete("time == 4")
    assert sorted(read(folder_of(table))["time"]) == [0, 1, 2, 3, 5]


def test_rows_that_were_deleted_by_a_rewrite_leave_the_others_in_place(table: Any) -> None:
    for k in range(3):
        table.append(rows(3 * k).to_arrow())
    table.delete("time == 1")  # its file is written anew, and so stands last
    assert sorted(read(folder_of(table))["time"]) == [0, *range(2, 9)]


def test_a_notebook_gives_the_table_itself(table: Any) -> None:
    table.append(rows(0).to_arrow())
    log = rd.read_log(table, user="user_id", item="item_id", time="time", labels={"click": "label"})
    assert log.frame is None and Path(log.config.path) == path_of(table)
    text = DataConfig(path="log.csv", separator=";")
    assert source_of(table).kinds.keys() == source_of(table, text).kinds.keys() == set(rows(0).columns)
    assert source_of(folder_of(table), text).kinds.keys() == set(rows(0).columns)


def test_what_is_damaged_or_elsewhere_is_one_line(table: Any) -> None:
    table.append(rows(0).to_arrow())
    path, metadata = folder_of(table), path_of(table)
    assert metadata is not None
    text = metadata.read_text()
    metadata.write_text(text[:-9])
    with pytest.raises(UserError, match="log: cannot be read as a table, damaged"):
        scan_file(path)
    metadata.write_text(text)
    next(path.glob("data/*.parquet")).unlink()
    with pytest.raises(UserError, match="log: cannot be read as a table, damaged"):
        scan_file(path)


def test_without_the_extra_the_line_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "log" / "metadata").mkdir(parents=True)
    (tmp_path / "log" / "metadata" / "v1.metadata.json").write_text("{}")
    monkeypatch.setitem(sys.modules, "pyiceberg.table", None)
    monkeypatch.setitem(sys.modules, "pyiceberg.exceptions", None)
    with pytest.raises(
        UserError, match=r"log: an Iceberg table, .* not installed: pip install 'recdistill\[iceberg\]'$"
    ):
        scan_file(tmp_path / "log")


def test_the_newest_metadata_counts_and_two_of_one_number_are_refused(tmp_path: Path) -> None:
    (tmp_path / "metadata").mkdir()
    for name in ("v2.metadata.json", "v10.metadata.json", "version-hint.text", "00009-x.metadata.json"):
        (tmp_path / "metadata" / name).touch()
    assert metadata_of(tmp_path) == tmp_path / "metadata" / "v10.metadata.json"
    (tmp_path / "metadata" / "00010-b.metadata.json").touch()
    with pytest.raises(UserError, match=r"00010-b.metadata.json and v10.metadata.json both stand for the newest state"):
        scan_file(tmp_path)


def test_tables_of_an_object_store_are_refused() -> None:
    class Table:
        metadata_location = "s3://bucket/log/metadata/00001-a.metadata.json"

    with pytest.raises(UserError, match="the table: its files lie at s3://, and only those of the local disk are read"):
        path_of(Table())

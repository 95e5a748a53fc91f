"""Samples and requests named by text keep their names or are numbered by arrival; each sample stands once."""

from __future__ import annotations

from pathlib import Path
from uuid import UUID

import polars as pl
import pytest

from recdistill.config.data import ColumnsConfig
from recdistill.data.readers.numbering import UniqueKeys
from recdistill.data.readers.rows import EventReader
from recdistill.data.readers.scan import scan_file
from recdistill.errors import UserError
from tests.support.written import log_with, read, refusal, write

UUIDS = [str(UUID(int=k)) for k in range(4)]


@pytest.mark.parametrize("form", ["parquet", "csv"])
def test_samples_of_text_keep_it_and_are_numbered_in_order(form: str, tmp_path: Path) -> None:
    for ids in (UUIDS[::-1], [str(10**19 + k) for k in range(4)]):
        rows = read(log_with(id=ids), tmp_path, form, sample_id="id")
        assert rows["sample_key"].to_list() == ids and rows["sample_id"].to_list() == [0, 1, 2, 3]
    refusal(log_with(id=["a", "b", "a", "c"]), tmp_path, ["row 0, column 'id': a sample id may stand once"],
            sample_id="id")  # fmt: skip
    refusal(log_with(id=["a", None, "b", "c"]), tmp_path, ["row 1, column 'id': must not be empty"], sample_id="id")


@pytest.mark.parametrize("at", [0, 99, 250])
def test_a_name_that_stood_in_an_earlier_chunk_is_refused(
    at: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = [f"s{k}" for k in range(300)]
    path = tmp_path / write(log_with(300, id=ids), tmp_path, "parquet")
    mapping = ColumnsConfig(sample_id="id")
    assert sum(map(len, EventReader(scan_file(path), mapping, rows=100).chunks())) == 300
    monkeypatch.setattr(UniqueKeys, "hashes", staticmethod(lambda keys: pl.Series([7] * len(keys)).to_numpy()))
    assert sum(map(len, EventReader(scan_file(path), mapping, rows=100).chunks())) == 300  # a hash is no name
    monkeypatch.undo()
    write(log_with(300, id=[*ids[:-1], ids[at]]), tmp_path, "parquet")
    with pytest.raises(UserError, match=r"row \d+, column 'id': a sample id may stand once"):
        list(EventReader(scan_file(path), mapping, rows=100).chunks())


@pytest.mark.parametrize("form", ["parquet", "csv"])
def test_requests_of_text_are_numbered_by_arrival_over_all_chunks(form: str, tmp_path: Path) -> None:
    names = [UUIDS[k % 3] for k in range(10)]
    path = tmp_path / write(log_with(10, list=names), tmp_path, form)
    rows = pl.concat(EventReader(scan_file(path), ColumnsConfig(request="list"), rows=4).chunks())
    assert rows["request_id"].to_list() == [k % 3 + 1 for k in range(10)]
    some = read(log_with(list=["b", None, "b", ""]), tmp_path, request="list")
    assert some["request_id"].to_list() == [1, None, 1, None]


def test_a_negative_request_is_refused_for_none_of_its_rows_would_be_together(tmp_path: Path) -> None:
    frame = log_with(list=[5, -1, 5, -1])
    refusal(frame, tmp_path, ["row 1, column 'list': not a whole number from 0 on", "{request: text}"], request="list")
    rows = read(frame, tmp_path, request="list", dtypes={"request": "text"})
    assert rows["request_id"].to_list() == [1, 2, 1, 2]

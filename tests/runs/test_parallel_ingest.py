"""A log that several workers read becomes the tables that one process writes, and is refused in the same words."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from deltalake import write_deltalake

from recdistill.config.data import ColumnsConfig, DataConfig, NegativesConfig, SamplingConfig, SideConfig
from recdistill.config.experiment import Experiment
from recdistill.config.workers import WorkersConfig
from recdistill.data.readers import tabular
from recdistill.errors import UserError
from recdistill.runs.batch_ingest import ingest, notes_of, open_tables
from recdistill.runs.folder import RunFolder
from recdistill.runs.parallel_ingest import whole_only
from tests.support.programs import needs

ROWS, SIZES = 1_000, (130, 7, 8, 0, 300, 55, 500)
COLUMNS: dict[str, Any] = {"categorical": ["device"], "numeric": ["price"]}


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tabular, "CHUNK", 100)


def frame(**changed: object) -> pl.DataFrame:
    """Return a log of ROWS rows, some columns of which are `changed`."""
    numbers = range(ROWS)
    columns: dict[str, object] = {
        "time": [1_700_000_000 + k // 3 for k in numbers],
        "user_id": [k * 7 % 31 for k in numbers],
        "item_id": [k * 13 % 17 for k in numbers],
        "label": [k % 2 for k in numbers],
        "device": [["phone", "desk", None][k % 3] for k in numbers],
        "price": [None if k % 50 == 0 else 0.5 * k for k in numbers],
    }
    return pl.DataFrame({**columns, **changed}, strict=False)


def files(folder: Path, rows: pl.DataFrame) -> str:
    """Write `rows` as files of SIZES."""
    (folder / "log").mkdir()
    at = 0
    for k, size in enumerate(SIZES):
        rows[at : at + size].write_parquet(folder / "log" / f"part-{k}.parquet", row_group_size=64)
        at += size
    return "log"


def delta(folder: Path, rows: pl.DataFrame) -> str:
    """Write `rows` as a Delta table of three appends."""
    for part in (rows[:420], rows[420:430], rows[430:]):
        write_deltalake(str(folder / "table"), part.to_arrow(), mode="append")
    return "table"


def one_file(folder: Path, rows: pl.DataFrame) -> str:
    """Write `rows` as one file."""
    rows.write_parquet(folder / "log.parquet", row_group_size=170)
    return "log.parquet"


def ingested(folder: Path, data: DataConfig, count: int) -> tuple[RunFolder, list[str]]:
    """Ingest by `count` workers; return the run and what was noted."""
    run, notes = RunFolder(folder / f"run-{count}"), []
    experiment = Experiment(name="x", data=data, workers=WorkersConfig(count=count))
    ingest(run, experiment, folder, lambda rows: None, notes.append)
    return run, notes


@needs("ray")
@pytest.mark.long
def test_ray_makes_the_same_files(tmp_path: Path) -> None:
    columns = ColumnsConfig(**COLUMNS, sample_id="sample")
    data = DataConfig(path=files(tmp_path, frame(sample=[k * 7 % 1009 for k in range(ROWS)])), columns=columns)
    tables = []
    for workers in (WorkersConfig(count=2), WorkersConfig(count=2, engine="ray")):
        run = RunFolder(tmp_path / workers.engine)
        ingest(run, Experiment(name="x", data=data, workers=workers), tmp_path, lambda rows: None, lambda line: None)
        events, _ = open_tables(run)
        tables.append([(part.path, (events.path / part.path).read_bytes()) for part in events.parts()])
    assert tables[0] == tables[1] and len(tables[0]) >= 10


def refused(folder: Path, data: DataConfig, count: int) -> str:
    """Return the error of an ingest by `count` workers, which leaves nothing behind."""
    with pytest.raises(UserError) as error:
        ingested(folder, data, count)
    assert not (folder / f"run-{count}" / "tables").exists()
    return str(error.value)


@pytest.mark.parametrize(
    ("write", "ids"), [(files, "numbered"), (files, "mixed"), (delta, "rising"), (one_file, "rising")]
)
def test_the_tables_are_those_of_one_process(
    tmp_path: Path, write: Callable[[Path, pl.DataFrame], str], ids: str
) -> None:
    given = {
        "numbered": {},
        "rising": {"sample": range(5, ROWS + 5)},
        "mixed": {"sample": [k * 7 % 1009 for k in range(ROWS)]},
    }
    columns = ColumnsConfig(**COLUMNS, sample_id=None if ids == "numbered" else "sample")
    data = DataConfig(path=write(tmp_path, frame(**given[ids])), columns=columns)
    found = []
    for count in (1, 2):
        run, notes = ingested(tmp_path, data, count)
        events, _ = open_tables(run)
        found.append((events.schema_text, [pl.read_parquet(events.path / part.path) for part in events.parts()], notes))
    (schema, one, notes), (other_schema, several, other_notes) = found
    assert schema == other_schema and notes == other_notes
    assert [len(rows) for rows in one] == [len(rows) for rows in several] and len(one) >= 10
    assert all(mine.equals(theirs) for mine, theirs in zip(one, several, strict=True))
    assert events.version == 1  # made, and filled by one commit


def test_what_is_left_out_is_counted_as_by_one_process(tmp_path: Path) -> None:
    users = [None if k % 90 == 0 else k % 31 for k in range(ROWS)]
    rows = frame(user_id=users, sample=range(ROWS))
    data = DataConfig(
        path=files(tmp_path, rows), columns=ColumnsConfig(**COLUMNS, sample_id="sample"), drop_missing=True
    )
    (one, _), (several, _) = ingested(tmp_path, data, 1), ingested(tmp_path, data, 2)
    assert notes_of(one) == notes_of(several) == ["drop_missing: 12 rows without user, item or usable time left out"]
    assert pl.concat(open_tables(one)[0].batches()).equals(pl.concat(open_tables(several)[0].batches()))


def changed(at: int, value: object, name: str) -> dict[str, object]:
    """Return the column `name` with another value in one row."""
    values = frame(sample=range(ROWS))[name].to_list()
    values[at] = value
    return {name: values}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (changed(870, 3, "label"), "part-6.parquet: row 370, column 'label'"),
        (changed(620, None, "user_id"), "part-6.parquet: row 120, column 'user_id': must not be empty"),
        (changed(400, 1_600_000_000, "time"), "part-4.parquet: row 255, column 'time': earlier than the row before"),
        (changed(600, 1_600_000_000, "time"), "part-6.parquet: row 100, column 'time': earlier than the row before"),
        (changed(700, 3, "sample"), "part-6.parquet: row 200, column 'sample': a sample id may stand once; 3 stood"),
        (changed(702, 701, "sample"), "part-6.parquet: row 201, column 'sample': a sample id may stand once; got 701"),
    ],
)
def test_a_wrong_row_is_refused_in_the_same_words(tmp_path: Path, change: dict[str, object], message: str) -> None:
    rows = frame(**{"sample": range(ROWS), **change})
    columns = ColumnsConfig(sample_id="sample")  # without numbers: their scales are of rows that this process reads
    data = DataConfig(path=files(tmp_path, rows), columns=columns)
    one, several = refused(tmp_path, data, 1), refused(tmp_path, data, 2)
    assert one == several and message in one


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    data = DataConfig(path=files(tmp_path, frame()), columns=ColumnsConfig())
    path = tmp_path / "log" / "part-4.parquet"
    raw = bytearray(path.read_bytes())
    raw[200:400] = bytes(200)
    path.write_bytes(raw)
    assert str(path) in refused(tmp_path, data, 2)


def test_a_log_without_rows_is_refused(tmp_path: Path) -> None:
    data = DataConfig(path=one_file(tmp_path, frame().clear()), columns=ColumnsConfig(**COLUMNS))
    assert refused(tmp_path, data, 2).endswith("the log has no rows")


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (DataConfig(), ""),
        (DataConfig(sort=True), "data.sort sorts in memory"),
        (DataConfig(limit=5), "data.limit takes the first rows"),
        (DataConfig(negatives=NegativesConfig()), "data.negatives are drawn from the rows before"),
        (DataConfig(sampling=SamplingConfig(negative=0.5)), "data.sampling leaves rows out"),
        (
            DataConfig(items=SideConfig(path="x", key="y", numeric=["z"])),
            "features are joined from data.items or data.users",
        ),
        (DataConfig(drop_missing=True), "rows are numbered and data.drop_missing leaves some out"),
        (DataConfig(columns=ColumnsConfig(sample_id="name")), "sample ids of text are numbered in order"),
        (DataConfig(columns=ColumnsConfig(request="name")), "requests named by text are numbered in order"),
        (DataConfig(reader="simulator"), "data.reader: simulator reads its files one after the other"),
    ],
)
def test_a_log_that_needs_its_order_is_left_to_one_process(tmp_path: Path, data: DataConfig, why: str) -> None:
    one_file(tmp_path, frame(name=[f"r{k}" for k in range(ROWS)]))
    assert whole_only(data.model_copy(update={"path": "log.parquet"}), tmp_path) == why


def test_text_is_left_to_one_process_and_the_user_learns_why(tmp_path: Path) -> None:
    frame().write_csv(tmp_path / "log.csv")
    data = DataConfig(path="log.csv", columns=ColumnsConfig(**COLUMNS))
    run, notes = ingested(tmp_path, data, 2)
    assert notes == ["workers: one process reads the log: only Parquet and Delta can be read from any row on"]
    assert open_tables(run)[0].rows() == ROWS

"""A run never stands for a log that has changed since: the same command refuses in one line, or nothing changed."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import polars as pl
import pytest
from deltalake import write_deltalake

from recdistill.config.data import BehaviorsConfig, DataConfig
from recdistill.config.experiment import Experiment
from recdistill.errors import UserError
from recdistill.runs import batch_ingest
from recdistill.runs.batch_ingest import ingest, open_tables
from recdistill.runs.folder import RunFolder

LOG = pl.DataFrame({"time": range(100), "user_id": [0, 1] * 50, "item_id": [3, 4] * 50, "label": [0, 1] * 50})


def read(folder: Path, path: str, behaviors: str | None = None) -> tuple[int, list[str]]:
    """Ingest into the run of `folder`, as the command does; return (rows read, notes)."""
    actions = BehaviorsConfig(path=behaviors) if behaviors else None
    experiment = Experiment(name="x", data=DataConfig(path=path, behaviors=actions))
    run, notes = RunFolder(folder / "run"), list[str]()
    with run.claimed(experiment, str(folder)):
        return ingest(run, experiment, folder, lambda rows: None, notes.append), notes


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A log in every form."""
    LOG.write_csv(tmp_path / "log.csv")
    LOG.write_parquet(tmp_path / "actions.parquet")
    (tmp_path / "parts").mkdir()
    for k in range(2):
        LOG[k * 50 : k * 50 + 50].write_parquet(tmp_path / "parts" / f"{k}.parquet")
    write_deltalake(str(tmp_path / "delta"), LOG.to_arrow())
    return tmp_path


def _append(folder: Path) -> None:
    with (folder / "log.csv").open("a") as file:
        file.write("100,0,3,1\n")


def _flip(folder: Path) -> None:
    text = (folder / "log.csv").read_text()
    (folder / "log.csv").write_text(text.replace("49,1,4,1", "49,1,4,0"))


def _text(folder: Path) -> None:
    shutil.rmtree(folder / "delta")
    write_deltalake(str(folder / "delta"), LOG.with_columns(pl.col("user_id").cast(pl.String)).to_arrow())


OTHERS = "are not those that the run has read"
CHANGES: list[tuple[str, Callable[[Path], object], str]] = [
    ("log.csv", _flip, rf"log.csv was written anew\), and its rows 1 to 100 {OTHERS}"),
    ("parts", lambda at: LOG[:1].write_parquet(at / "parts" / "00.parquet"), rf"00.parquet is new\), .* {OTHERS}"),
    (
        "parts",
        lambda at: (at / "parts" / "1.parquet").unlink(),
        r"1.parquet is gone\), and it ends after row 50, where",
    ),
    ("parts/*", lambda at: LOG[:49].write_parquet(at / "parts" / "0.parquet"), rf"0.parquet has .*had .*{OTHERS}"),
    ("delta", _text, r"delta is another table than it was\), and its columns or their types differ"),
]


@pytest.mark.parametrize(("path", "change", "words"), CHANGES)
def test_a_log_that_changed_is_refused_and_the_run_stays(
    path: str, change: Callable[[Path], object], words: str, folder: Path
) -> None:
    assert read(folder, path)[0] == 100 and read(folder, path) == (0, [])
    before = sorted((folder / "run").rglob("*"))
    change(folder)
    for _ in range(2):
        with pytest.raises(
            UserError, match=rf"run: the log changed since it was read \(.*{words}.*; choose another --out"
        ):
            read(folder, path)
    assert sorted((folder / "run").rglob("*")) == before and open_tables(RunFolder(folder / "run"))[0].rows() == 100


def test_behaviors_that_changed_are_refused(folder: Path) -> None:
    assert read(folder, "log.csv", "actions.parquet")[0] == 100
    LOG[:50].write_parquet(folder / "actions.parquet")
    with pytest.raises(UserError, match="the log changed since it was read .*actions.parquet has.*ends after row 50"):
        read(folder, "log.csv", "actions.parquet")


def test_a_file_that_was_copied_or_touched_is_the_same(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read(folder, "log.csv")
    os.utime(folder / "log.csv", (1, 1))
    (folder / "log.csv").rename(folder / "copy")
    shutil.copy(folder / "copy", folder / "log.csv")
    monkeypatch.chdir(folder / "parts")
    assert read(Path("..").resolve(), "log.csv") == (0, [])


def test_a_log_that_is_gone_leaves_the_run_as_it_is_and_that_is_noted(folder: Path) -> None:
    read(folder, "parts")
    shutil.rmtree(folder / "parts")
    rows, (note,) = read(folder, "parts")
    assert rows == 0 and note.endswith("parts is gone; the run goes on with the rows that it read from there")


def test_a_log_that_changes_while_it_is_read_leaves_no_run(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checked = batch_ingest._timed

    def growing(*words: object) -> Iterator[pl.DataFrame]:
        yield from checked(*words)  # type: ignore[arg-type]
        _append(folder)

    monkeypatch.setattr(batch_ingest, "_timed", growing)
    with pytest.raises(UserError, match="log.csv: changed while it was read; run the command again"):
        read(folder, "log.csv")
    assert not (folder / "run").exists()


def test_what_was_read_stands_in_the_run(folder: Path) -> None:
    read(folder, "delta", "actions.parquet")
    found = json.loads((folder / "run" / "run.json").read_text())["sources"]
    assert found[str(folder / "delta")]["version"].endswith(" 0")
    size, _, _, digest = found[str(folder / "actions.parquet")]["files"][str(folder / "actions.parquet")]
    assert size == (folder / "actions.parquet").stat().st_size and len(digest) == 32

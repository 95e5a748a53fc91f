"""Bad input through the command line: exit code 2, one line that says what and where, and nothing left behind."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from recdistill.cli import app as cli
from recdistill.config.load import load_text
from recdistill.tables.predictions import PredictionLog
from tests.support.runs import TINY, finish, ingested, tiny

CONFIG = """
name: mine
data:
  path: log.parquet
  columns: {sample_id: id, time: ts, user: user, item: item, tasks: {click: clicked},
    categorical: [device], numeric: [price]}
students: {light: {kind: pooled-mlp}}
"""
ROWS = 200


def log() -> pl.DataFrame:
    """Return a log with nothing wrong with it."""
    at = np.arange(ROWS)
    return pl.DataFrame(
        {
            "id": at,
            "ts": 1_700_000_000 + at,
            "user": at % 7,
            "item": at % 11,
            "clicked": at % 2,
            "device": at % 3,
            "price": at * 0.5,
        }
    )


def cell(column: str, row: int, value: object) -> Callable[[Path], None]:
    """Return what writes a log with one cell set to `value`."""

    def write(path: Path) -> None:
        values = log()[column].to_list()
        values[row] = value
        log().with_columns(pl.Series(column, values, strict=False)).write_parquet(path)

    return write


def damaged(change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    """Return what writes a log and then changes its bytes."""

    def write(path: Path) -> None:
        log().write_parquet(path)
        path.write_bytes(change(path.read_bytes()))

    return write


def flipped(content: bytes) -> bytes:
    """Return the bytes with one bit flipped among the data."""
    at = len(content) // 3
    return content[:at] + bytes([content[at] ^ 16]) + content[at + 1 :]


def unreadable(path: Path) -> None:
    """Make a log that may not be read; root may read everything, so for root the way there goes through a file."""
    log().write_parquet(path)
    path.chmod(0)
    if os.access(path, os.R_OK):
        path.unlink()
        path.symlink_to("mine.yaml/log.parquet")


LATER = datetime.now(UTC) + timedelta(days=400)
INPUTS: dict[str, tuple[Callable[[Path], object], tuple[str, ...]]] = {
    "missing file": (lambda path: None, ("log.parquet: no such file",)),
    "empty file": (lambda path: path.touch(), ("log.parquet", "empty")),
    "no rows": (lambda path: log().clear().write_parquet(path), ("log.parquet", "no rows")),
    "wrong column": (
        lambda path: log().rename({"clicked": "cliked"}).write_parquet(path),
        ("no column 'clicked'", "did you mean 'cliked'"),
    ),
    "wrong type": (
        lambda path: log().with_columns(price=pl.lit("cheap")).write_parquet(path),
        ("log.parquet", "price"),
    ),
    "text in a time": (lambda path: log().with_columns(ts=pl.lit("noon")).write_parquet(path), ("log.parquet", "ts")),
    "unsorted times": (
        lambda path: log().reverse().write_parquet(path),
        ("row 1", "earlier than the row before", "data.sort"),
    ),
    "future times": (cell("ts", ROWS - 1, int(LATER.timestamp())), (f"row {ROWS - 1}", "future")),
    "wrong time unit": (
        lambda path: log().with_columns(pl.col("ts") * 1000).write_parquet(path),
        ("column 'ts'", "set time_unit: 'ms'"),
    ),
    "duplicate sample": (cell("id", 9, 8), ("row 8", "id", "may stand once")),
    "label outside {0, 1}": (cell("clicked", 5, 2), ("row 5", "click", "must be 0, 1 or empty")),
    "no user": (cell("user", 3, None), ("row 3", "user")),
    "truncated": (damaged(lambda content: content[: len(content) // 2]), ("log.parquet",)),
    "not a Parquet file": (lambda path: path.write_text("time,user\n"), ("log.parquet",)),
    "no read permission": (unreadable, ("log.parquet",)),
}


def called(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str]:
    """Return (exit code, standard error) of the command line, run in this process."""
    monkeypatch.setattr(sys, "argv", ["recdistill", *map(str, words)])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    return int(caught.value.code or 0), capsys.readouterr().err


@pytest.fixture
def refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Return a function that calls the command line, checks that it is refused in one line, and returns the line."""

    def call(*words: object) -> str:
        code, err = called(monkeypatch, capsys, *words)
        assert code == 2, err
        assert err.startswith("recdistill: ") and err.count("\n") == 1 and "Traceback" not in err
        return err

    return call


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the working directory, with an experiment in it and nothing else."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").write_text(CONFIG, encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize("out", [(), ("--out", "deep/down/run")], ids=["default folder", "--out"])
@pytest.mark.parametrize(("write", "says"), INPUTS.values(), ids=INPUTS.keys())
def test_a_wrong_log(
    write: Callable[[Path], object],
    says: tuple[str, ...],
    out: tuple[str, ...],
    place: Path,
    refused: Callable[..., str],
) -> None:
    write(place / "log.parquet")
    before = sorted(os.listdir(place))
    line = refused("ingest", "mine.yaml", *out)
    assert all(part in line for part in says), line
    assert sorted(os.listdir(place)) == before


def test_a_good_log_is_taken(place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    log().write_parquet(place / "log.parquet")
    assert called(monkeypatch, capsys, "ingest", "mine.yaml") == (0, "")
    assert (place / "runs" / "mine" / "store" / "store.json").exists()


def test_a_flipped_bit_is_refused_or_changes_nothing(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A user's Parquet file need not carry checksums; what cannot be decoded is refused, and never with a traceback."""
    log().write_parquet(place / "log.parquet")
    whole = (place / "log.parquet").read_bytes()
    refusals = 0
    for at in range(4, len(whole), len(whole) // 12):
        (place / "log.parquet").write_bytes(whole[:at] + bytes([whole[at] ^ 16]) + whole[at + 1 :])
        code, err = called(monkeypatch, capsys, "ingest", "mine.yaml", "--out", f"run-{at}")
        assert (code, err.count("\n")) in ((0, 0), (2, 1)), err
        assert (place / f"run-{at}").exists() == (code == 0)
        refusals += code == 2
    assert refusals > 2


@pytest.mark.parametrize(
    ("assignment", "says"),
    [
        ("data.keep_rates={click: [1.0, 0.0]}", "data.keep_rates.click"),
        ("data.keep_rates={click: [1.5, 1.0]}", "data.keep_rates.click"),
        ("teacher.sampling.negative=0", "teacher.sampling.negative"),
        ("data.keep_rates={clik: [1.0, 0.5]}", "did you mean 'click'"),
        ("teachr.width=3", "did you mean 'teacher'"),
        ("teacher.options.foo=3", "option 'foo' is not known"),
        ("teacher.options.heads=3", "not a multiple of heads"),
        ("teacher.options.heads=4.5", "options.heads: it should be a valid integer; got '4.5'"),
        ("students.light.options.hidden=[0]", "options.hidden[0]: "),
        ("students.light.options.hiden=[4]", "did you mean 'hidden'"),
        ("evaluate.seeds=[0, 1, 0]", "a seed may stand once"),
        ("teacher.width=", "has no value"),
        ("evaluate.group=request", "name their column as data.columns.request"),
        ("data.columns.users=x", "did you mean 'user'"),
        ("data.columns.numeric=[device]", "column 'device' is named as a feature twice"),
        ("data.columns.label_times={clik: ts}", "there is no task 'clik'; did you mean 'click'?"),
    ],
)
def test_a_wrong_experiment(assignment: str, says: str, place: Path, refused: Callable[..., str]) -> None:
    log().write_parquet(place / "log.parquet")
    assert says in refused("run", "mine.yaml", "--set", assignment)
    assert sorted(os.listdir(place)) == ["log.parquet", "mine.yaml"]


def test_a_folder_that_holds_another_run_or_other_files(place: Path, refused: Callable[..., str]) -> None:
    (place / "tiny.yaml").write_text(TINY, encoding="utf-8")
    ingested(place / "run", tiny())
    before = sorted(str(path) for path in (place / "run").rglob("*"))
    assert "holds another run" in refused("run", "mine.yaml", "--out", "run")
    assert "teacher.width: 4 there, 8 now" in refused("run", "tiny.yaml", "--out", "run", "--set", "teacher.width=8")
    assert sorted(str(path) for path in (place / "run").rglob("*")) == before
    assert "holds files that are no run" in refused("run", "mine.yaml", "--out", ".")
    assert sorted(os.listdir(place)) == ["mine.yaml", "run", "tiny.yaml"]


@pytest.mark.parametrize("content", ["[]", "3", '{"experiment": ', ""])
def test_a_damaged_account_of_a_run_is_refused(place: Path, refused: Callable[..., str], content: str) -> None:
    log().write_parquet(place / "log.parquet")
    (place / "run").mkdir()
    (place / "run" / "run.json").write_text(content, encoding="utf-8")
    assert "run.json: damaged; choose another --out" in refused("ingest", "mine.yaml", "--out", "run")


def test_a_refused_run_takes_nothing_along_that_was_there(place: Path, refused: Callable[..., str]) -> None:
    """Somebody freed space and took the tables away, not the models; and the folder that was there stays there."""
    log().write_parquet(place / "log.parquet")
    (place / "empty").mkdir()
    wrong = ("--set", "data.columns.user=x")
    refused("ingest", "mine.yaml", "--out", "empty", *wrong)
    assert list((place / "empty").iterdir()) == []
    experiment = load_text(CONFIG, [wrong[1]])
    (place / "run" / "models").mkdir(parents=True)
    about = {"experiment": experiment.model_dump(mode="json"), "data": ""}
    (place / "run" / "run.json").write_text(json.dumps(about), encoding="utf-8")
    assert "no column 'x'" in refused("ingest", "mine.yaml", "--out", "run", *wrong)
    assert [path.name for path in (place / "run").iterdir()] == ["models"]


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a run whose teacher is trained."""
    root = tmp_path_factory.mktemp("taught") / "run"
    finish(root, tiny(), "teacher")
    return root


def test_a_table_of_another_schema(taught: Path, place: Path, refused: Callable[..., str]) -> None:
    run = shutil.copytree(taught, place / "run")
    shutil.rmtree(run / "predictions")
    PredictionLog.create(run / "predictions", ("click", "buy"))
    (place / "tiny.yaml").write_text(TINY, encoding="utf-8")
    assert "another schema" in refused("ingest", "tiny.yaml", "--out", "run")
    shutil.rmtree(run / "predictions")
    pl.DataFrame({"a": [1]}).write_delta(run / "predictions")
    assert "not one of recdistill" in refused("ingest", "tiny.yaml", "--out", "run")


def test_a_full_disk(place: Path) -> None:
    """On a disk in memory with room for the tables and the store, but for no checkpoint."""
    (place / "tiny.yaml").write_text(TINY, encoding="utf-8")
    (place / "disk").mkdir()
    full = (
        "mount -t tmpfs -o size={size} tmpfs disk && {{ recdistill run tiny.yaml --out disk/run; code=$?; find disk; "
        "exit $code; }}"
    )
    within = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c"]
    try:
        subprocess.run([*within, "mount -t tmpfs tmpfs disk"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("this machine lets nobody mount a disk in memory")
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        [*within, full.format(size="200k")], capture_output=True, text=True, env=os.environ | {"PATH": path}
    )
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("recdistill: disk full: free space and run the same command again (disk/run/")
    assert done.stderr.count("\n") == 1 and ".part" not in done.stdout and "disk/run/tables" in done.stdout


@pytest.mark.parametrize("table", ["tables/events", "predictions"])
@pytest.mark.parametrize(
    "change", [lambda content: content[: len(content) // 2], flipped], ids=["truncated", "bit-flipped"]
)
def test_a_damaged_table(
    table: str, change: Callable[[bytes], bytes], taught: Path, place: Path, refused: Callable[..., str]
) -> None:
    """The store is rebuilt from events, signals are joined from predictions: either must find the damage."""
    run = shutil.copytree(taught, place / "run")
    file = sorted((run / table).rglob("*.parquet"))[0]
    file.write_bytes(change(file.read_bytes()))
    if table == "tables/events":
        shutil.rmtree(run / "store")
        (place / "tiny.yaml").write_text(TINY, encoding="utf-8")
        line = refused("ingest", "tiny.yaml", "--out", "run")
        assert not (run / "store").exists()
    else:
        line = refused("train", "run", "--model", "light.distilled.s0")
    assert file.name in line

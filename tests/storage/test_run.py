"""A whole run in an object store: the same figures to the bit, killed anywhere, and refused in one line."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from recdistill.config.load import load_text
from recdistill.runs.folder import RunFolder
from recdistill.storage.location import Location, names, write
from recdistill.storage.objects import ObjectPath
from recdistill.tables.events import EventLog
from recdistill.tables.predictions import PredictionLog
from recdistill.testing.killpoints import VARIABLE
from tests.support.commands import typed
from tests.support.forked import forked
from tests.support.object_stores import SECRET, everywhere
from tests.support.paths import ROOT
from tests.support.sweeps import swept

CONFIG = """
name: small
data: {reader: simulator, options: {rows: 600, users: 40, items: 20}}
teacher: {kind: din, width: 8, history: 20}
students: {light: {kind: din, width: 4, history: 5, distill: {weight: 1.0}}}
evaluate: {start: 0.5, seeds: [0], bootstrap: 20}
checkpoint_rows: 200
processes: 1
"""
TIMES = ("seconds", "rows_per_second", "created")
KILLS = ["table.files:1", "step.learned:4", "table.commit:1", "checkpoint.written:2", "checkpoint.published:2"]


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("config") / "small.yaml"
    path.write_text(CONFIG)
    return path


@pytest.fixture(autouse=True)
def trained_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let commands of this process train in it, as those of a notebook do: a process more is seconds of imports."""
    monkeypatch.setattr("recdistill.train.pool.importable", lambda kind: False)


@pytest.fixture(scope="module")
def local(config: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The figures of a run in a folder."""
    place = tmp_path_factory.mktemp("local") / "run"
    code, printed = typed("run", config, "--out", place)
    assert code == 0, printed
    return figures(place)


def killed_command(*words: object, **variables: str) -> int:
    """Return the exit code of a command in a process of its own, with a training process of its own."""
    env = {**os.environ, "OMP_NUM_THREADS": "1", **variables}
    return subprocess.run([sys.executable, "-m", "recdistill", *map(str, words)], cwd=ROOT, env=env).returncode


def timeless(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: timeless(one) for key, one in value.items() if key not in TIMES}
    return [timeless(one) for one in value] if isinstance(value, list) else value


def figures(place: Location) -> Any:
    return timeless(json.loads((place / "summary.json").read_text()))


def done(*words: object) -> str:
    """Return what a command of this process prints, which has to succeed."""
    code, printed = typed(*words)
    assert code == 0, printed
    return printed


def refused(*words: object) -> str:
    """Return the one line by which a command refuses."""
    code, printed = typed(*words)
    assert code == 2 and printed.count("\n") == 1, printed
    return printed


@everywhere
def test_a_run_gives_a_local_ones_figures_and_goes_on_on_a_new_machine(
    bucket: ObjectPath, config: Path, local: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done("run", config, "--out", bucket)
    assert figures(bucket) == local
    assert names(bucket) >= {"run.json", "summary.json", "report.html", "tables", "predictions", "models"}
    assert not names(bucket) & {"lease.json", "store", "signals", "lock"}
    assert all(SECRET not in (bucket / name).read_text() for name in ("run.json", "summary.json", "report.html"))
    shutil.rmtree(tmp_path / "cache")
    (bucket / "summary.json").unlink()
    for verb in ("evaluate", "report", "inspect", "train"):
        done(verb, bucket)
    assert f"{bucket}" in done("compare", bucket, bucket)
    assert figures(bucket) == local
    assert "nothing to do" in done("run", config, "--out", bucket)
    other = refused("run", config, "--out", bucket, "--set", "teacher.width=16")
    assert "holds another run (teacher.width: 8 there, 16 now)" in other
    monkeypatch.setattr("recdistill.storage.lease.MAX_SKEW_S", -1.0)  # as if this machine's clock were off
    for words in (("compact", bucket), ("evaluate", bucket), ("run", config, "--out", bucket)):
        assert "the store's; set it" in refused(*words)


@pytest.mark.needs("obstore", "ministack")
@pytest.mark.parametrize("point", swept(KILLS))
def test_a_run_that_is_killed_goes_on_and_ends_as_if_nothing_had_been(
    point: str, bucket_of: Callable[[str], ObjectPath], config: Path, local: Any
) -> None:
    bucket = bucket_of("ministack")
    assert forked("run", config, "--out", bucket, **{VARIABLE: point})[0] == -signal.SIGKILL
    done("run", config, "--out", bucket)
    assert figures(bucket) == local


@pytest.mark.needs("obstore", "ministack")
@pytest.mark.long
def test_a_run_whose_training_process_is_killed_goes_on(
    bucket_of: Callable[[str], ObjectPath], config: Path, local: Any
) -> None:
    bucket = bucket_of("ministack")
    assert killed_command("run", config, "--out", bucket, **{VARIABLE: "step.learned:4"}) == 1
    done("run", config, "--out", bucket)
    assert figures(bucket) == local


@pytest.mark.needs("obstore", "ministack")
def test_a_teachers_predictions_are_imported_there_by_another_machine(
    bucket_of: Callable[[str], ObjectPath], config: Path, tmp_path: Path
) -> None:
    bucket = bucket_of("ministack")
    done("ingest", config, "--out", bucket)
    shutil.rmtree(tmp_path / "cache")
    ids = pl.concat(EventLog.open(bucket / "tables" / "events").batches(columns=["sample_id"]))
    tasks = PredictionLog.open(bucket / "predictions").tasks
    said = ids.with_columns(pl.lit(0.5).alias(f"logit_{task}") for task in tasks)
    said.write_parquet(tmp_path / "said.parquet")
    assert "teacher: 600 predictions from " in done("import-predictions", bucket, tmp_path / "said.parquet")
    assert PredictionLog.open(bucket / "predictions").models() == [("teacher", 0, "imported", 600)]


def test_a_prefix_with_other_files_or_another_process_is_refused(bucket: ObjectPath, config: Path) -> None:
    write(bucket / "theirs.txt", b"")
    assert "holds files that are no run of recdistill" in refused("run", config, "--out", bucket)
    assert names(bucket) == {"theirs.txt"}
    (bucket / "theirs.txt").unlink()
    write(bucket / "lease.json", b'{"machine": "another", "holder": "process 1 on another"}')
    assert "another process is at work on this run" in refused("ingest", config, "--out", bucket)
    assert names(bucket) == {"lease.json"}


def test_a_bucket_that_is_not_there_and_verbs_that_are_local_are_one_line(bucket: ObjectPath, config: Path) -> None:
    for words, text in (
        (("run", config, "--out", "s3://no-such-bucket/run"), "there is no such bucket"),
        (("run", config, "--out", "s3://no-such-bucket"), "no address of a run"),
        (("shadow", bucket, "served"), f"{bucket}: this takes a path of this machine"),
        (("export", bucket, "light", "--to", bucket / "served"), f"{bucket}/served: this takes a path of this machine"),
        (("serve", bucket / "served"), "this takes a path of this machine"),
        (
            ("run", config, "--out", bucket, "--data", "s3://bucket/data"),
            "s3://bucket/data: this takes a path of this machine",
        ),
        (("choose", config, "--out", bucket), "this takes a path of this machine"),
        (("compact", bucket), "holds no run"),
        (("watch", bucket), "holds no run"),
        (("evaluate", bucket), "holds no run"),
    ):
        assert text in refused(*words)


def test_options_of_the_store_reach_it_and_stay_out_of_everything_that_is_written() -> None:
    experiment = load_text(
        CONFIG + "storage: {options: {aws_secret_access_key: none-may-read, aws_endpoint_url: 'http://x'}}"
    )
    assert experiment.storage.variables() == {"AWS_SECRET_ACCESS_KEY": "none-may-read", "AWS_ENDPOINT_URL": "http://x"}
    assert "none-may-read" not in f"{experiment!r} {experiment.model_dump_json()}"


@pytest.mark.needs("obstore", "moto")
def test_who_lost_the_lease_leaves_what_is_there_to_its_next_holder(
    bucket_of: Callable[[str], ObjectPath],
) -> None:
    folder, experiment = RunFolder(bucket_of("moto")), load_text(CONFIG)
    with pytest.raises(KeyboardInterrupt), folder.claimed(experiment, ""):
        write(folder.root / "lease.json", b'{"machine": "other"}')
        write(folder.root / "tables" / "theirs", b"")
        raise KeyboardInterrupt
    assert (folder.root / "tables" / "theirs").exists() and (folder.root / "run.json").exists()


@pytest.mark.needs("obstore", "moto")
def test_what_this_machine_has_of_another_run_at_the_address_is_not_used(
    bucket_of: Callable[[str], ObjectPath],
) -> None:
    folder, experiment = RunFolder(bucket_of("moto")), load_text(CONFIG)
    with pytest.raises(KeyboardInterrupt), folder.claimed(experiment, ""):
        write(folder.root / "lease.json", b'{"machine": "other"}')  # so that run.json stays
        raise KeyboardInterrupt
    (folder.root / "lease.json").unlink()
    (folder.local / "store").mkdir()
    with folder.held():
        assert (folder.local / "store").exists()
    about = json.loads((folder.root / "run.json").read_bytes())
    write(folder.root / "run.json", json.dumps(about | {"id": "of another machine"}).encode())
    with folder.held():
        assert not (folder.local / "store").exists()

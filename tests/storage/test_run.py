"""A whole run in an object store: the same figures to the bit, killed anywhere, and refused in one line."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from recdistill.config.load import load_text
from recdistill.runs.folder import RunFolder
from recdistill.storage.location import Location, names, write
from recdistill.storage.objects import ObjectPath
from recdistill.testing.killpoints import VARIABLE
from tests.support.paths import ROOT
from tests.support.sweeps import swept

CONFIG = """
name: small
data: {reader: simulator, options: {rows: 1200, users: 40, items: 20}}
teacher: {kind: din, width: 8, history: 20}
students: {light: {kind: din, width: 4, history: 5, distill: {weight: 1.0}}}
evaluate: {start: 0.5, seeds: [0]}
checkpoint_rows: 400
processes: 1
"""
TIMES = ("seconds", "rows_per_second", "created")
KILLS = ["table.files:1", "step.learned:12", "table.commit:1", "checkpoint.written:2", "checkpoint.published:2"]


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "small.yaml"
    path.write_text(CONFIG)
    return path


def call(*words: object, **variables: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "OMP_NUM_THREADS": "1", **variables}
    return subprocess.run(
        [sys.executable, "-m", "recdistill", *map(str, words)], cwd=ROOT, env=env, capture_output=True, text=True
    )


def timeless(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: timeless(one) for key, one in value.items() if key not in TIMES}
    return [timeless(one) for one in value] if isinstance(value, list) else value


def figures(place: Location) -> Any:
    return timeless(json.loads((place / "summary.json").read_text()))


def test_a_run_gives_a_local_ones_figures_and_goes_on_on_a_new_machine(
    bucket: ObjectPath, config: Path, tmp_path: Path
) -> None:
    there, here = call("run", config, "--out", bucket), call("run", config, "--out", tmp_path / "run")
    assert (there.returncode, here.returncode) == (0, 0), there.stderr + here.stderr
    assert figures(bucket) == figures(tmp_path / "run")
    assert names(bucket) >= {"run.json", "summary.json", "report.html", "tables", "predictions", "models"}
    assert not names(bucket) & {"lease.json", "store", "signals", "lock"}
    secret = "secret-of-tests"
    assert all(secret not in (bucket / name).read_text() for name in ("run.json", "summary.json", "report.html"))
    shutil.rmtree(tmp_path / "cache")
    (bucket / "summary.json").unlink()
    for verb in ("evaluate", "report", "inspect", "train"):
        done = call(verb, bucket)
        assert done.returncode == 0, done.stderr
    assert figures(bucket) == figures(tmp_path / "run")
    again = call("run", config, "--out", bucket)
    assert again.returncode == 0 and "nothing to do" in again.stdout
    other = call("run", config, "--out", bucket, "--set", "teacher.width=16")
    assert other.returncode == 2 and "holds another run (teacher.width: 8 there, 16 now)" in other.stderr


@pytest.mark.needs("obstore", "moto")
@pytest.mark.parametrize("point", swept(KILLS))
def test_a_run_that_is_killed_goes_on_and_ends_as_if_nothing_had_been(
    point: str, bucket_of: Callable[[str], ObjectPath], config: Path, tmp_path: Path
) -> None:
    bucket = bucket_of("moto")
    killed = call("run", config, "--out", bucket, **{VARIABLE: point})
    assert killed.returncode != 0
    done = call("run", config, "--out", bucket)
    assert done.returncode == 0, done.stderr
    assert call("run", config, "--out", tmp_path / "run").returncode == 0
    assert figures(bucket) == figures(tmp_path / "run")


def test_a_prefix_with_other_files_or_another_process_is_refused(bucket: ObjectPath, config: Path) -> None:
    write(bucket / "theirs.txt", b"")
    done = call("run", config, "--out", bucket)
    assert done.returncode == 2 and "holds files that are no run of recdistill" in done.stderr
    assert names(bucket) == {"theirs.txt"}
    (bucket / "theirs.txt").unlink()
    write(bucket / "lease.json", b'{"machine": "another", "holder": "process 1 on another"}')
    done = call("ingest", config, "--out", bucket)
    assert done.returncode == 2 and "another process is at work on this run" in done.stderr
    assert done.stderr.count("\n") == 1 and names(bucket) == {"lease.json"}


def test_a_bucket_that_is_not_there_and_verbs_that_are_local_are_one_line(bucket: ObjectPath, config: Path) -> None:
    for words, text in (
        (("run", config, "--out", "s3://no-such-bucket/run"), "there is no such bucket"),
        (("run", config, "--out", "s3://no-such-bucket"), "no address of a run"),
        (("stream", config, "--out", bucket), "this verb works on local folders"),
        (("watch", bucket), "this verb works on local folders"),
        (("evaluate", bucket), "holds no run"),
    ):
        done = call(*words)
        assert done.returncode == 2 and text in done.stderr and done.stderr.count("\n") == 1, done.stderr


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

"""MLflow against a real sqlite store, read back with MLflow's own client."""

from __future__ import annotations

import json
import shutil
import socket
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from recdistill.app.run import evaluate_stage, open_run, report_stage, run_pipeline
from recdistill.cli.app import guarded
from recdistill.config.experiment import Experiment
from recdistill.runs.folder import RunFolder
from recdistill.tracking.mlflow import open_run as open_mlflow
from recdistill.tracking.mlflow import store_of
from recdistill.tracking.session import tracked
from recdistill.tracking.update import Point, Update
from recdistill.train.trainer import Progress
from tests.support.runs import tiny

FILES = ["model-card.md", "report.html", "run.json", "summary.json"]


def client_of(root: Path) -> tuple[Any, str]:
    """Return a client of the store of a run's folder, and the run's id in it."""
    from mlflow import MlflowClient

    store = store_of(root)
    return MlflowClient(store, registry_uri=store), json.loads((root / "tracking" / "mlflow.json").read_text())[
        "run_id"
    ]


def followed(*assignments: str) -> Experiment:
    """Return a small experiment that MLflow follows."""
    return tiny("tracking=[mlflow]", *assignments)


def with_store(root: Path, other: Path) -> None:
    """Give a folder the store of another run, without its run: making a new one takes seconds."""
    (root / "tracking").mkdir(parents=True)
    shutil.copy(other / "tracking" / "mlflow.db", root / "tracking")


def everywhere(root: Path) -> set[str]:
    """Return what lies directly in a folder."""
    return {path.name for path in root.iterdir()}


def test_a_run_shows_its_keys_its_way_its_scores_its_files_and_where_it_comes_from(followed_run: Path) -> None:
    client, run = client_of(followed_run)
    logged_run = client.get_run(run)
    assert logged_run.info.status == "FINISHED" and logged_run.info.run_name == "run"
    assert client.get_experiment(logged_run.info.experiment_id).name == "tiny"
    assert (logged_run.data.params["teacher.width"], logged_run.data.params["evaluate.seeds"]) == ("4", "[0]")
    assert logged_run.data.params["students.light.distill.weight"] == "auto"
    steps = [point.step for point in client.get_metric_history(run, "teacher/progressive_ne")]
    assert steps == sorted(steps) and steps[0] < steps[-1] == 1100  # 350 of 400 rows replayed; one epoch
    summary = json.loads((followed_run / "summary.json").read_text())
    assert logged_run.data.metrics["light.distilled/auc"] == summary["students"]["light"]["distilled"]["auc"]
    assert logged_run.data.metrics["teacher/finish/auc"] == summary["further_tasks"]["finish"]["teacher"]["auc"]
    assert not any("eta" in name for name in logged_run.data.metrics), "withheld, so there is none to show"
    assert logged_run.data.tags["recdistill.run"] == str(followed_run)
    assert logged_run.data.tags["recdistill.model.light.distilled.s0"].endswith("prequential signals of teacher")
    assert logged_run.data.tags["recdistill.model.light.raw.s0"].endswith("labels alone")
    assert logged_run.data.tags["recdistill.events_version"] == str(summary["versions"]["events"])
    assert [file.path for file in client.list_artifacts(run)] == FILES
    for name in FILES:
        stored = Path(client.download_artifacts(run, name)).read_bytes()
        assert stored == (followed_run / name).read_bytes()
    assert everywhere(followed_run.parent) == {"run"}, "nothing lies about"


def test_scored_again_it_is_the_same_run_and_says_which_keys_changed(followed_run: Path, tmp_path: Path) -> None:
    shutil.copytree(followed_run, tmp_path / "run")
    client, run = client_of(tmp_path / "run")
    with open_run(followed("evaluate.bootstrap=30"), None, tmp_path / "run") as folder:
        evaluate_stage(folder, folder.experiment())
        report_stage(folder)
    assert client_of(tmp_path / "run")[1] == run
    logged_run = client.get_run(run)
    assert (
        logged_run.data.tags["recdistill.changed"] == "evaluate.bootstrap: 30" and logged_run.info.status == "FINISHED"
    )
    assert logged_run.data.params["evaluate.bootstrap"] == "20"
    client.delete_run(run)
    report_stage(RunFolder(tmp_path / "run"))
    assert client_of(tmp_path / "run")[1] != run


def test_two_folders_share_the_store_that_the_environment_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/team/all.db")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "ours")
    (tmp_path / "team").mkdir()
    runs = []
    for name in ("one", "two"):
        handle = open_mlflow(tmp_path / name, "tiny")
        (tmp_path / name / "report.html").write_text(name)
        handle.log(Update(files=[tmp_path / name / "report.html"]))
        handle.close("FINISHED")
        client, run = client_of(tmp_path / name)
        assert Path(client.download_artifacts(run, "report.html")).read_text() == name
        runs.append(client.get_run(run).info)
    assert runs[0].experiment_id == runs[1].experiment_id and runs[0].run_id != runs[1].run_id
    assert client.get_experiment(runs[0].experiment_id).name == "ours"
    assert everywhere(tmp_path) == {"one", "two", "team"} and everywhere(tmp_path / "team") == {"all.db", "mlartifacts"}
    assert everywhere(tmp_path / "one" / "tracking") == {"mlflow.json"}


def test_names_that_mlflow_refuses_are_told_apart_and_stay_inside(followed_run: Path, tmp_path: Path) -> None:
    with_store(tmp_path / "run", followed_run)
    hostile = [
        "../../up",
        "a\nb",
        "a<b>",
        "a>b>",
        "..",
        "/etc/x",
        "é" * 400,
        "a//b",
        "${env}",
        "'; DROP TABLE runs; --",
    ]
    handle = open_mlflow(tmp_path / "run", "../x/<script>")
    values = {name: "v" * 9000 for name in hostile}
    handle.log(Update(values, values, [Point(name, "ne", 1, float(at), 0.0) for at, name in enumerate(hostile)]))
    handle.log(Update(parameters={f"key.{at}": "v" for at in range(250)}))
    client, run = client_of(tmp_path / "run")
    logged_run = client.get_run(run)
    assert sorted(logged_run.data.metrics.values()) == [float(at) for at in range(len(hostile))]
    assert len(logged_run.data.params) == len(hostile) + 250
    assert everywhere(tmp_path) == {"run"} and everywhere(tmp_path / "run") == {"tracking"}


def test_a_store_that_is_down_costs_one_warning_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.socket() as nobody:  # bound, and never listened on: a connection is refused at once
        nobody.bind(("127.0.0.1", 0))
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://me:secret@127.0.0.1:{nobody.getsockname()[1]}")
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
        run_pipeline(followed(), None, tmp_path / "run")
    shown = capsys.readouterr()
    assert shown.out.count("warning: tracking: mlflow is out of reach, the run goes on without it") == 1
    assert "refused" in shown.out and f"recdistill report {tmp_path / 'run'}" in shown.out.replace("\n", "")
    assert "secret" not in shown.out + shown.err and shown.err == ""
    assert {"report.html", "model-card.md", "summary.json"} < everywhere(tmp_path / "run")


def test_a_store_that_never_answers_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recdistill.tracking.session.PATIENCE", 0.0)
    lines: list[str] = []
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes connections, answers none
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{silent.getsockname()[1]}")
        with tracked(RunFolder(tmp_path / "run"), followed(), lines.append) as tracking:
            tracking.progress("teacher", Progress(1, 2, 1.0, 1.0, 1.0, None))
    (line,) = lines
    assert "no answer within 0 s" in line


def test_what_waits_for_a_store_has_a_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recdistill.tracking.session.MAX_WAITING", 5)
    monkeypatch.setattr("recdistill.tracking.session.PATIENCE", 0.0)
    lines: list[str] = []
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{silent.getsockname()[1]}")
        with tracked(RunFolder(tmp_path / "run"), followed(), lines.append) as tracking:
            for step in range(9):
                tracking.progress("teacher", Progress(step, 9, 1.0, 1.0, 1.0, None))
    assert len(lines) == 1 and "5 points wait for its answer" in lines[0]


def test_a_store_that_may_only_be_read_costs_one_warning(
    followed_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(followed_run, tmp_path / "run")
    store = tmp_path / "run" / "tracking" / "mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///file:{store}?mode=ro&uri=true")
    before, lines = store.read_bytes(), []
    with tracked(RunFolder(tmp_path / "run"), followed(), lines.append) as tracking:
        tracking.progress("teacher", Progress(1, 2, 1.0, 1.0, 1.0, None))
    assert len(lines) == 1 and "readonly database" in lines[0]
    assert store.read_bytes() == before and sqlite3.connect(store).execute("select count(*) from runs").fetchone() == (
        1,
    )


def test_a_failed_and_a_stopped_run_say_so(followed_run: Path, tmp_path: Path) -> None:
    with_store(tmp_path / "run", followed_run)
    for error, status in ((ValueError, "FAILED"), (KeyboardInterrupt, "KILLED")):
        with pytest.raises(error), tracked(RunFolder(tmp_path / "run"), followed(), print) as tracking:
            tracking.progress("teacher", Progress(1, 2, 1.0, 1.0, 1.0, None))
            raise error
        client, run = client_of(tmp_path / "run")
        assert client.get_run(run).info.status == status


def test_a_missing_extra_is_one_line_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("recdistill.tracking.session.NEEDS", {"mlflow": ("not_installed_here",)})
    with pytest.raises(SystemExit) as caught:
        guarded(lambda: run_pipeline(followed(), None, tmp_path / "run"))
    assert caught.value.code == 2 and everywhere(tmp_path) == set()
    line = "recdistill: tracking: mlflow is not installed; run: pip install 'recdistill[mlflow]'\n"
    assert capsys.readouterr().err == line

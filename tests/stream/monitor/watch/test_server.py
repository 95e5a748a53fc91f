"""The watch server: its routes and nothing else, what it refuses, metrics that parse, a dashboard that
names only metrics there are.
"""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families

from recdistill.errors import UserError
from recdistill.runs.folder import RunFolder
from recdistill.stream.monitor.state import StateReader
from recdistill.stream.monitor.watch.launch import serve_watch
from recdistill.stream.monitor.watch.page import render
from recdistill.stream.monitor.watch.prometheus import expose
from recdistill.stream.monitor.watch.server import make_app
from recdistill.tables.verdicts import VerdictLog
from tests.support.paths import ROOT
from tests.support.streams import MadeStream, sums_of

SCRIPT = Path(sys.executable).with_name("recdistill")


@pytest.fixture
def made(tmp_path: Path) -> MadeStream:
    """Return a stream with a step of each process, a quarantine and dropped rows."""
    made = MadeStream(tmp_path / "run")
    for k in (1, 2):
        made.step(k)
    made.gate(VerdictLog.row("teacher", 1, "quarantined", reason="shift 3.1"))
    made.ingest(5, dropped={"late": 3})
    return made


@pytest.fixture
def client(made: MadeStream) -> TestClient:
    """Return a client of the stream's server."""
    return TestClient(
        make_app(made.folder, made.experiment), base_url="http://127.0.0.1:8377", raise_server_exceptions=False
    )


def samples(text: str) -> dict[tuple[str, ...], float]:
    """Return (name, sorted label values ...) -> value of metrics in Prometheus' text format."""
    return {
        (s.name, *sorted(s.labels.values())): s.value
        for family in text_string_to_metric_families(text)
        for s in family.samples
    }


def test_metrics_say_what_the_state_says(client: TestClient) -> None:
    answer = client.get("/metrics")
    found = samples(answer.text)
    assert answer.headers["content-type"].startswith("text/plain; version=")
    assert found["recdistill_rows_total", "teacher"] == 20 and found["recdistill_lag_rows", "teacher"] == 5
    assert (
        found["recdistill_quarantined_versions", "teacher"] == 1 and found["recdistill_dropped_rows_total", "late"] == 3
    )
    assert found["recdistill_coverage", "light.distilled.s0"] == pytest.approx(0.75)
    assert found["recdistill_missing_signals_total", "late", "light.distilled.s0"] == 2
    assert (
        found["recdistill_label_to_weights_seconds", "light.raw.s0"] == 1.5
        and found["recdistill_dead_letters_total",] == 0
    )
    assert found["recdistill_ne", "light.distilled.s0"] < found["recdistill_ne", "light.raw.s0"]


def test_a_figure_that_is_not_known_is_no_metric(tmp_path: Path) -> None:
    made = MadeStream(tmp_path / "run")
    made.ingest(5)
    found = samples(expose(StateReader(made.folder, made.experiment).read()).decode())
    assert ("recdistill_rows_total", "ingest") in found and ("recdistill_lag_rows", "ingest") not in found


def test_state_is_strict_json(client: TestClient) -> None:
    state = client.get("/state.json").json()
    assert state["name"] == "made" and [one["name"] for one in state["processes"]][0] == "ingest"


def test_the_dashboard_names_only_metrics_and_labels_there_are(client: TestClient) -> None:
    board = client.get("/grafana.json").json()
    assert board == json.loads(files("recdistill.stream.monitor.watch").joinpath("grafana.json").read_text())
    families = text_string_to_metric_families(client.get("/metrics").text)
    there = {s.name: set(s.labels) for family in families for s in family.samples}
    targets = [target for panel in board["panels"] for target in panel["targets"]]
    assert len(targets) > 15
    for target in targets:
        used = re.findall(r"recdistill_\w+", target["expr"])
        assert used and set(used) <= there.keys(), target
        assert set(re.findall(r"{{(\w+)}}", target["legendFormat"])) <= set.union(*(there[name] for name in used)), (
            target
        )
    asked = {name for target in targets for name in re.findall(r"recdistill_\w+", target["expr"])}
    assert {"recdistill_ne", "recdistill_lag_rows", "recdistill_quarantined_versions", "recdistill_coverage"} <= asked


@pytest.mark.parametrize(
    "path", ["/docs", "/redoc", "/openapi.json", "/index.html", "/run.json", "/static/x", "/%2e%2e/run.json"]
)
def test_there_are_no_other_routes(client: TestClient, path: str) -> None:
    assert client.get(path).status_code == 404


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_nothing_can_be_changed(client: TestClient, method: str) -> None:
    assert client.request(method, "/").status_code == 405


def test_bodies_are_refused_unread(client: TestClient) -> None:
    assert client.request("GET", "/", content=b"x").status_code == 413
    assert client.request("POST", "/", content=iter([b"x"] * 10)).status_code == 413


def test_pages_of_other_sites_cannot_read_it_through_a_name_of_theirs(client: TestClient, made: MadeStream) -> None:
    assert client.get("/state.json", headers={"Host": "evil.example"}).status_code == 400
    assert client.get("/state.json", headers={"Host": "localhost:8377"}).status_code == 200
    wide = TestClient(make_app(made.folder, made.experiment, "0.0.0.0"), base_url="http://machine.example")
    assert wide.get("/state.json").status_code == 200  # who listens for others is called by other names


def test_the_policy_forbids_all_but_the_page_itself(client: TestClient) -> None:
    for path in ("/", "/metrics", "/nowhere"):
        head = client.get(path).headers
        policy = head["content-security-policy"]
        assert policy.startswith("default-src 'none'; script-src 'sha256-") and "http" not in policy
        assert head["x-content-type-options"] == "nosniff" and head["cache-control"] == "no-store"
    assert not re.findall(r"(?:src|href)=\"?(?:https?:)?//", client.get("/").text)


def test_errors_show_the_terminal_why_and_the_network_nothing(
    client: TestClient, made: MadeStream, capsys: pytest.CaptureFixture[str]
) -> None:
    newest = made.folder.predictions / "_delta_log" / f"{made.predictions.version:020d}.json"
    newest.write_text("{broken", encoding="utf-8")
    answers = [client.get(path) for path in ("/", "/state.json", "/metrics", "/")]
    assert {answer.status_code for answer in answers} == {503}
    assert all(str(made.root) not in answer.text and "delta" not in answer.text for answer in answers)
    err = capsys.readouterr().err
    assert err.count(str(newest)) == 1 and "damaged" in err


def test_everything_given_is_escaped(tmp_path: Path) -> None:
    evil = "<script>x</script>"
    made = MadeStream(tmp_path / "run", student=evil)
    made.step(1)
    made.gate(VerdictLog.row("teacher", 1, "quarantined", reason=evil + '"'))
    made.ingest(1, dropped={evil: 1})
    html = render(StateReader(made.folder, made.experiment).read(made.wall))
    assert html.count(evil) == 0 and html.count("&lt;script&gt;x") > 5


def test_a_stream_that_is_done_shows_it_whatever_there_is_to_look_at(tmp_path: Path) -> None:
    made = MadeStream(tmp_path / "run")
    made.ingest(10, end=True)
    made.model("teacher", sums_of(10, 0.3), end=True)
    made.gate(VerdictLog.row("teacher", 1, "quarantined"), end=True)
    state = StateReader(made.folder, made.experiment).read(made.wall)
    assert state.level == "look" and "every process is done" in render(state)


def test_the_docs_name_every_metric(client: TestClient) -> None:
    page = ROOT.joinpath("docs", "watch-a-stream.md").read_text(encoding="utf-8")
    documented = set(re.findall(r"`(recdistill_\w+)`", page))
    families = text_string_to_metric_families(client.get("/metrics").text)
    assert documented == {s.name for family in families for s in family.samples}


def test_a_port_in_use_is_named(made: MadeStream) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=f"port {port} of 127.0.0.1 is in use; choose another with --port"):
            serve_watch(made.folder, made.experiment, port=port)


def test_a_host_that_is_none_of_ours_is_named(made: MadeStream) -> None:
    with pytest.raises(UserError, match=r"port 8377 of 192.0.2.1 cannot be used: cannot assign"):
        serve_watch(made.folder, made.experiment, host="192.0.2.1")


def test_a_missing_library_is_named_with_its_extra(made: MadeStream, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name == "recdistill.stream.monitor.watch.server"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    with pytest.raises(UserError, match=r"watch needs uvicorn; install it: pip install 'recdistill\[watch\]'"):
        serve_watch(made.folder, made.experiment)


def test_the_command_serves_until_interrupted_and_ends_well(made: MadeStream) -> None:
    command = [SCRIPT, "watch", made.root, "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout and process.stderr
        line = process.stdout.readline()
        assert re.match(r"http://127\.0\.0\.1:\d+/  \(", line)
        process.send_signal(signal.SIGINT)
        assert (process.wait(600), process.stderr.read()) == (0, "")


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    done = subprocess.run([SCRIPT, "watch", tmp_path], capture_output=True, text=True)
    assert done.returncode == 2 and f"{tmp_path}: holds no run" in done.stderr and done.stderr.count("\n") == 1
    assert not RunFolder(tmp_path).logs.exists()

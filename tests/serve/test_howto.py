"""Every route of the page has an example, and each is answered."""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest
from starlette.routing import Route

from recdistill.serve.app import make_app
from recdistill.serve.limits import Limits
from recdistill.serve.live import Live
from recdistill.serve.request_log import RequestLog
from recdistill.serve.service import Service
from tests.serve.test_request_log import Kept
from tests.support.paths import ROOT
from tests.support.programs import needs
from tests.support.serving import Served, serving
from tests.test_docs import snippets

PAGE = ROOT / "docs" / "howto" / "serve.md"
CURLS = [line for code in snippets(PAGE, "sh") for line in code.splitlines() if line.startswith("curl")]


@pytest.fixture(scope="module")
def served(artefact: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(artefact, "--log", str(tmp_path_factory.mktemp("log"))) as made:
        yield made


def written(folder: Path) -> None:
    """Write the files that the examples send, as the page has them."""
    bodies = snippets(PAGE, "json")
    (folder / "request.json").write_text(bodies[0])
    (folder / "feedback.json").write_text(next(body for body in bodies if "outcomes" in body))
    code = next(one for one in snippets(PAGE, "python") if "request.arrow" in one)
    exec(code.replace('"request.arrow"', repr(str(folder / "request.arrow"))), {})


@needs("curl")
@pytest.mark.parametrize("command", CURLS)
def test_each_example_is_answered(served: Served, tmp_path: Path, command: str) -> None:
    written(tmp_path)
    ours = command.replace("8378", str(served.port)).replace("light.distilled.s0", "teacher")
    words = [*shlex.split(ours), "--fail-with-body", "--silent", "--show-error"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    if "answer.arrow" in command:
        assert pa.ipc.open_stream(tmp_path / "answer.arrow").read_all().num_rows == 3


def test_every_route_has_an_example(artefact: Path) -> None:
    service = Service(Live(artefact), Limits())
    service.log = RequestLog(Kept(), service.live, service.meters)
    app = make_app(service)
    service.close()
    shown = [
        re.sub(r"light\.distilled\.s0", "{name}", line).replace("versions/1", "versions/{version}") for line in CURLS
    ]
    paths = {shlex.split(line)[1].partition("8378")[2] for line in shown}
    assert {route.path for route in app.routes if isinstance(route, Route)} == paths

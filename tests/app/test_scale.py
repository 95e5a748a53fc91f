"""`recdistill scale` from the command line: sizes trained, scored, told; run again it trains nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from recdistill.cli.app import app
from tests.config.test_sweep import CONFIG


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    folder = tmp_path_factory.mktemp("scale")
    (folder / "c.yaml").write_text(CONFIG)
    arguments = ["scale", str(folder / "c.yaml"), "--axis", "history", "--axis", "data", "--out", str(folder / "run")]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    return folder / "run", arguments


def test_every_size_stands_in_the_file_and_on_the_page(run: tuple[Path, list[str]]) -> None:
    found = json.loads((run[0] / "scale.json").read_text())
    assert [size["name"] for size in found["sizes"]] == [
        "history-2",
        "history-5",
        "history-10",
        "history-20",
        "data-0.125",
        "data-0.25",
        "data-0.5",
        "data-1",
    ]
    assert [law["axis"] for law in found["laws"]] == ["history", "data"]
    assert [size["x"] for size in found["sizes"]][4:] == [375, 750, 1500, 3000]
    assert found["sizes"][3]["ne"] == found["sizes"][7]["ne"]  # one model, on two axes
    page = (run[0] / "scale.html").read_text()
    assert "history-20" in page and "http" not in page.replace("http-equiv", "")


def test_what_is_trained_is_not_trained_again(run: tuple[Path, list[str]]) -> None:
    before = (run[0] / "scale.json").read_text()
    done = CliRunner().invoke(app, run[1])
    assert done.exit_code == 0 and "every model is already trained" in done.output
    assert (run[0] / "scale.json").read_text() == before

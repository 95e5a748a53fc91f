"""The live page in Chromium: it refreshes itself, shows when the server is gone, fits a phone, and is quiet."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from recdistill.tables.verdicts import VerdictLog
from tests.support.browser import Page, browsing
from tests.support.programs import needs
from tests.support.streams import MadeStream

SCRIPT = Path(sys.executable).with_name("recdistill")
EVIL = "<img src=x onerror=document.title='evil'>"
pytestmark = needs("chromium")
AHEAD = 600.0  # seconds, so that a browser that is slow today still sees every process at work


@contextmanager
def served(made: MadeStream, port: int = 0) -> Iterator[str]:
    """Yield the address of a real `recdistill watch` of the stream."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        [SCRIPT, "watch", made.root, "--port", str(port)], stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stdout
        try:
            yield process.stdout.readline().split()[0]
        finally:
            process.terminate()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> MadeStream:
    """Return a stream that runs now."""
    made = MadeStream(tmp_path_factory.mktemp("watch") / "run")
    made.wall = time.time() - 60
    for k in range(1, 6):
        made.step(k)
    return made


@pytest.fixture(scope="module")
def url(made: MadeStream) -> Iterator[str]:
    """Return the address of its page."""
    with served(made) as address:
        yield address


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """Return a tab of one browser for all tests."""
    with browsing(tmp_path_factory.mktemp("browser")) as tab:
        yield tab


def open_quietly(page: Page, url: str) -> None:
    """Open the page; what it wrote and requested before is forgotten."""
    page.open("about:blank#")
    page.console.clear()
    page.requested.clear()
    page.open(url)


def test_it_shows_what_matters_and_asks_nobody_else(page: Page, url: str, made: MadeStream) -> None:
    made.wall = time.time() + AHEAD
    made.step(6)
    open_quietly(page, url)
    text = page.text("main")
    assert "processes at work" in page.text("h1") and "Healthy" in page.text("[role=status]")
    assert "light: distilled − raw" in text and "NE 0.9228 against 0.9844" in text
    page.wait("performance.getEntriesByType('resource').length > 0")  # it refreshed itself
    assert page.console == [] and {asked for asked in page.requested if not asked.startswith("data:")} == {url}


def test_it_takes_up_new_commits_by_itself(page: Page, url: str, made: MadeStream) -> None:
    made.wall = time.time() + AHEAD
    open_quietly(page, url)
    made.ingest(70)
    made.gate(VerdictLog.row("teacher", 2, "quarantined", reason="calibration 3.1 <b>"))
    page.wait("document.querySelector('h1').innerText.includes('at most 70 rows behind')")
    assert "calibration 3.1 <b>" in page.text("[data-part=versions]") and "quarantined" in page.text(
        "[data-part=versions]"
    )
    assert "1\n" in page.text("[data-part=cards] .harm") and page.console == []


def test_what_the_reader_opened_stays_open_and_pause_holds_the_page(page: Page, url: str, made: MadeStream) -> None:
    made.wall = time.time() + AHEAD
    open_quietly(page, url)
    page.ask("document.querySelector('summary').click()")
    before = page.text("[data-part=when]")
    page.wait(f"document.querySelector('[data-part=when]').innerText !== {before!r}")
    assert page.ask("document.querySelector('details').open") is True
    page.ask("document.getElementById('pause').click()")
    assert page.ask("document.getElementById('pause').getAttribute('aria-pressed')") == "true"
    page.ask("refresh()")  # what was under way is done
    held = page.text("[data-part=when]")
    page.ask("new Promise(done => setTimeout(done, 2 * EVERY + 500))")
    assert page.text("[data-part=when]") == held


def test_a_value_that_is_being_read_is_not_taken_away(page: Page, url: str, made: MadeStream) -> None:
    open_quietly(page, url)
    page.ask("window.read = document.querySelector('.hit'); window.read.focus()")
    made.step(7)
    page.wait(
        f"document.querySelector('[data-part=processes] td:nth-child(3)').innerText === '{made.taken}'"
    )  # the rest went on
    assert page.ask("window.read.isConnected") is True
    page.ask("window.read.blur()")
    page.wait("!window.read.isConnected")


def test_it_says_when_the_server_is_gone_and_when_it_is_back(page: Page, made: MadeStream) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with served(made, port) as address:
        open_quietly(page, address)
        assert page.ask("document.getElementById('gone').hidden") is True
    page.wait("!document.getElementById('gone').hidden")
    assert "does not answer. What you see is of " in page.text("#gone")
    with served(made, port):
        page.wait("document.getElementById('gone').hidden")


@pytest.mark.parametrize("dark", [False, True])
def test_nothing_is_wider_than_a_phone(page: Page, tmp_path: Path, dark: bool) -> None:
    stream = MadeStream(tmp_path / "run", student="a_very_long_name_without_any_space_" * 3)
    for k in range(1, 4):
        stream.step(k)
    stream.gate(VerdictLog.row("teacher", 1, "quarantined", reason="calibration=" + "3" * 300))
    stream.ingest(1, dropped={"c" * 200: 10**12})
    with served(stream) as address:
        page.dark(dark)
        for width in (320, 360, 390, 768, 1200):
            page.size(width)
            open_quietly(page, address)
            assert page.ask("document.documentElement.scrollWidth") == page.ask("innerWidth") == width
        colours = page.ask("getComputedStyle(document.body).backgroundColor")
        assert colours == ("rgb(20, 23, 26)" if dark else "rgb(251, 251, 249)")


def test_a_page_that_is_too_wide_is_seen(page: Page) -> None:
    page.size(360)
    page.open(
        "data:text/html,<!doctype html><meta name=viewport content='width=device-width'><p style='width:500px'>wide"
    )
    assert page.ask("document.documentElement.scrollWidth") > 360


def test_hostile_names_are_text(page: Page, tmp_path: Path) -> None:
    stream = MadeStream(tmp_path / "run", student=EVIL)
    stream.step(1)
    stream.gate(VerdictLog.row("teacher", 1, "quarantined", reason=EVIL))
    with served(stream) as address:
        open_quietly(page, address)
        page.ask("refresh()")
        assert EVIL in page.text("[data-part=students]") and EVIL in page.text("[data-part=versions]")
        assert page.ask("document.querySelectorAll('img').length") == 0 and page.ask("document.title") != "evil"
        assert page.console == []


def test_it_can_be_used_without_seeing_it(page: Page, url: str) -> None:
    page.size(1200)
    open_quietly(page, url)
    nodes = page.call("Accessibility.getFullAXTree")["nodes"]
    roles = {
        (node["role"]["value"], node.get("name", {}).get("value", "")) for node in nodes if not node.get("ignored")
    }
    named = {role: [name for other, name in roles if other == role] for role, _ in roles}
    assert named["button"] == ["Pause"] and all(named["image"]) and len(named["image"]) == 2
    assert {"status", "table", "rowheader", "columnheader", "heading", "main"} <= named.keys()
    assert any("Teacher" in name and "last" in name for name in named["image"])


def test_a_page_that_talks_is_heard(page: Page) -> None:
    page.open("data:text/html,<script>console.error('noted')</script><img src='http://127.0.0.1:9/x.png'>")
    assert any("noted" in line for line in page.console) and "http://127.0.0.1:9/x.png" in page.requested

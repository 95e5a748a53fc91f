"""The report in Chromium: no console message, no request, no sideways scroll; every check is seen to fail."""

from __future__ import annotations

import json
import re
import subprocess
from html import escape
from pathlib import Path

import pytest

from recdistill.evaluate.summary import Slice, Summary
from recdistill.report.page import render, write_report
from tests.support.browser import FLAGS
from tests.support.programs import needs, path_of
from tests.support.summaries import sample_summary, withheld_summary
from tests.support.sweeps import swept

pytestmark = needs("chromium")


def browse(page: Path, folder: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    """Open `page` headless with a fresh profile and wait for the browser to end."""
    profile = f"--user-data-dir={folder / 'profile'}"
    command = [str(path_of("chromium")), *FLAGS, "--enable-logging=stderr", profile, *flags, page.as_uri()]
    return subprocess.run(command, capture_output=True, text=True, timeout=600, check=True)


def console_and_requests(page: Path, folder: Path) -> tuple[list[str], list[str]]:
    """Return what the page wrote to the console, and the URLs beyond the file itself that it asked for."""
    log = folder / "net.json"
    console = browse(page, folder, f"--log-net-log={log}", "--virtual-time-budget=2000", "--dump-dom").stderr
    events = json.loads(log.read_text())["events"]
    asked = [e["params"] for e in events if "url" in e.get("params", {}) and "initiator" in e["params"]]
    urls = {p["url"] for p in asked if p["initiator"] != "not an origin" and not p["url"].startswith("data:")}
    return re.findall(r"CONSOLE.*", console), sorted(urls)


def widths(html: str, folder: Path, width: int) -> tuple[int, int]:
    """Return (width of the window, width of what is in it) for `html` shown `width` pixels wide."""
    frame = folder / "frame.html"
    frame.write_text(
        f'<iframe style="width:{width}px;height:800px;border:0" srcdoc="{escape(html)}"></iframe><script>'
        "onload = () => { const e = document.querySelector('iframe').contentDocument.documentElement;"
        "document.title = `widths ${e.clientWidth} ${e.scrollWidth}`; }</script>",
        encoding="utf-8",
    )
    shown = browse(frame, folder, "--virtual-time-budget=2000", "--dump-dom").stdout
    found = re.search(r"<title>widths (\d+) (\d+)</title>", shown)
    assert found, shown[:300]
    return int(found[1]), int(found[2])


def long_names() -> Summary:
    """Return the sample with long names in every place that a user's text can reach."""
    full, word = sample_summary(), "a_very_long_name_without_any_space_in_it_" * 3
    details, finish = full.students["din-16"].details, full.further_tasks["finish"]
    cut = [Slice(slice=word, value=word, rows=10**11, metrics={"raw": {"gauc": 0.5}}, why=word), *details.slices]
    wide = full.students["din-16"].model_copy(update={"details": details.model_copy(update={"slices": cut})})
    return full.model_copy(
        update={
            "name": word,
            "tasks": ["a", word],
            "students": {word: wide, "b": full.students["din-8"]},
            "further_tasks": {word: finish.model_copy(update={"students": {word: wide}})},
        }
    )


@pytest.mark.parametrize("summary", [sample_summary(), withheld_summary()], ids=["full", "withheld"])
def test_nothing_on_the_console_and_nothing_asked_of_a_network(summary: Summary, tmp_path: Path) -> None:
    write_report(summary, tmp_path / "report.html")
    assert console_and_requests(tmp_path / "report.html", tmp_path) == ([], [])


def test_a_page_that_talks_and_asks_is_seen(tmp_path: Path) -> None:
    (tmp_path / "bad.html").write_text("<script>console.error('seen')</script><img src='http://127.0.0.1:9/x.png'>")
    console, asked = console_and_requests(tmp_path / "bad.html", tmp_path)
    assert any("seen" in line for line in console) and asked == ["http://127.0.0.1:9/x.png"]


@pytest.mark.parametrize("width", swept([320, 1200, 360, 390, 768], quick=2))
def test_no_sideways_scrolling(width: int, tmp_path: Path) -> None:
    for summary in (sample_summary(), withheld_summary(), long_names()):
        inside, needed = widths(render(summary), tmp_path, width)
        assert (inside, needed) == (inside, inside) and abs(inside - width) <= 20


def test_a_page_that_is_too_wide_is_seen(tmp_path: Path) -> None:
    inside, needed = widths("<!doctype html><p style='width:500px'>wide", tmp_path, 390)
    assert needed > inside


def test_it_prints_on_a_few_pages(tmp_path: Path) -> None:
    write_report(sample_summary(), tmp_path / "report.html")
    browse(tmp_path / "report.html", tmp_path, f"--print-to-pdf={tmp_path / 'report.pdf'}")
    pages = len(re.findall(rb"/Type\s*/Page\b", (tmp_path / "report.pdf").read_bytes()))
    assert 2 <= pages <= 8  # both students' details

"""The page of a loop: whole in itself, every version marked, nothing unescaped."""

from __future__ import annotations

import json
from pathlib import Path

from recdistill.evaluate.closed_loop import LoopSummary
from recdistill.report.loop import MAX_POINTS, grouped, render, together, write_loop
from tests.evaluate.test_closed_loop import point

LOOP = LoopSummary(
    "a<b", "light<i>", 20, 4, [point(50 * k + 50, [1 + k // 40], 0.3 + 0.005 * k) for k in range(100)], 7
)


def test_the_page_shows_every_version_and_escapes_what_it_is_given(tmp_path: Path) -> None:
    html = render(LOOP)
    assert "a&lt;b" in html and "a<b" not in html and "light<i>" not in html
    assert html.count('class="diagonal"') == 2 * len(LOOP.swaps) == 4
    assert html.count("<tr><th>") == 1 + 3 and "http" not in html.replace("http-equiv", "")
    assert "<b>light&lt;i&gt;</b>" in html and "74" in html  # the mean share of the last quarter
    write_loop(LOOP, tmp_path)
    assert json.loads((tmp_path / "loop.json").read_text())["points"][0]["requests"] == 50
    assert (tmp_path / "loop.html").read_text() == html


def test_many_rounds_become_few_points_of_all_their_requests() -> None:
    points = grouped(LOOP.points)
    assert len(points) <= MAX_POINTS and points[-1].requests == 5000
    one = together(LOOP.points[:2])
    assert one.clicks["student"] == (0.3 + 0.305) / 2 and one.versions == [1]

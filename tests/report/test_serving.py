"""The page of a measured server."""

from __future__ import annotations

from pathlib import Path

from recdistill.report.serving import COLOURS, render, write_page
from recdistill.serve.bench import Step
from recdistill.serve.bench_run import Found

STEPS = [
    Step(100.0, 99.8, (1.0, 2.0, 3.0, None), 0.1, {}, 500, False),
    Step(200.0, 150.0, (2.0, 20.0, 300.0, 400.0), 9.0, {"429": 7, "<b>": 1}, 1000, True),
]


def found(steps: list[Step]) -> Found:
    return Found("<i>light</i> version 3", "200 candidates", 200.0, 180.0, 9000.0, 10.0, steps)


def test_the_page_shows_every_rate_and_escapes_what_it_was_given(tmp_path: Path) -> None:
    write_page(found(STEPS), tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert "<i>light" not in page and "<b>:" not in page and "&lt;i&gt;light" in page
    assert "At most 180 requests a second" in page and "up to 100 requests/s, 20,000 candidates/s" in page
    assert "not kept up with; not reached: the sender was late" in page and "429: 7" in page
    assert all(f".{colour} {{" in page for colour in COLOURS)  # a line without one is not drawn
    assert "100/s: p50 1.00, p95 2.00, p99 3.00, p99.9 –" in page and "<script" not in page


def test_a_page_of_no_answers_is_one_too() -> None:
    nothing = Step(100.0, 0.0, (None,) * 4, 0.1, {"503": 9}, 9, False)
    assert "too few requests for a p99" in render(found([nothing]))

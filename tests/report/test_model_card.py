"""model-card.md: the figures of the summary, a header that YAML reads, and nothing that a name could slip in."""

from __future__ import annotations

import re

import yaml
from markdown_it import MarkdownIt

from recdistill.evaluate.summary import Slice, StudentSummary, Summary
from recdistill.report.model_card import plain, render_card
from tests.support.summaries import sample_summary, withheld_summary

LINEAGE = {"data": "table: /logs/impressions.parquet", "events_version": "41", "model.teacher": "labels alone"}
HOSTILE = "x\n---\n# <script>alert(1)</script> [a](http://evil) | ${name} `&copy;` \x1b[31m \u202e"


def parts(card: str) -> tuple[dict, str]:
    """Return a card's header, read, and its text."""
    _, header, body = card.split("---\n", 2)
    return yaml.safe_load(header), body


def test_the_header_holds_each_students_metrics_and_eta_with_its_interval() -> None:
    summary = sample_summary()
    header, body = parts(render_card(summary, LINEAGE))
    assert header["library_name"] == "recdistill" and len(header["model-index"]) == 2
    first = header["model-index"][0]
    assert first["name"] == "video-feed/din-16"
    (result,) = first["results"]
    assert result["dataset"] == {"type": "table", "name": LINEAGE["data"]} and result["task"]["name"] == "click"
    metrics = {one["type"]: one for one in result["metrics"]}
    eta, student = summary.students["din-16"].transferability.gauc, summary.students["din-16"].distilled
    assert metrics["gauc"]["value"] == student.gauc
    assert (metrics["eta_gauc"]["value"], metrics["eta_gauc"]["low"], metrics["eta_gauc"]["high"]) == (
        eta.eta,
        eta.low,
        eta.high,
    )
    assert metrics["eta_gauc"]["confidence"] == 0.95 and "eta_ne" not in metrics, "withheld"
    assert "| din-16 | GAUC | +0.620 | +0.510 to +0.700 | +0.0428 |" in body
    assert "| din-16 | NE | withheld | the teacher's gain is inside the noise" in body
    assert "| events\\_version | 41 |" in body and "Task finish, 41,000 impressions" in body
    for part in ("Intended use", "Scores", "Data", "Lineage", "Limitations"):
        assert f"\n## {part}\n" in body


def test_limitations_name_what_this_run_does_not_show() -> None:
    _, body = parts(render_card(withheld_summary(), LINEAGE))
    limits = body.partition("## Limitations")[2]
    assert (
        "One seed" in limits
        and "no claim on GAUC, AUC, NE" in limits
        and "No claim: the teacher's gain is inside" in body
    )
    _, body = parts(render_card(sample_summary(), LINEAGE))
    limits = body.partition("## Limitations")[2]
    assert "One seed" not in limits and "din-16: no claim on NE" in limits and "98.1%" in limits


def test_slices_that_lost_are_named() -> None:
    summary = sample_summary()
    lost = Slice(
        slice="hour", value="a|b", rows=900, why="-", metrics={"raw": {"gauc": 0.7}, "distilled": {"gauc": 0.6}}
    )
    few = lost.model_copy(update={"value": "few", "rows": 3})
    student = summary.students["din-16"]
    details = student.details.model_copy(update={"slices": [lost, few]})
    limits = render_card(renamed(summary, "din-16", student.model_copy(update={"details": details})), LINEAGE)
    assert "(GAUC, not tested) in: hour a\\|b." in limits


def renamed(summary: Summary, name: str, student: StudentSummary | None = None) -> Summary:
    """Return the summary with its first student alone, of this name."""
    student = student or summary.students["din-16"]
    return summary.model_copy(update={"students": {name: student}})


def test_hostile_names_are_shown_as_they_are_and_do_nothing() -> None:
    summary = renamed(sample_summary().model_copy(update={"name": HOSTILE, "tasks": [HOSTILE, "finish"]}), HOSTILE)
    card = render_card(summary, {"data": HOSTILE, HOSTILE: HOSTILE})
    header, body = parts(card)
    assert header["model-index"][0]["name"] == " ".join(
        f"{HOSTILE}/{HOSTILE}".replace("\x1b", "").replace("\u202e", "").split()
    )
    page = MarkdownIt("commonmark").enable("table").render(body)
    assert not re.search(r"<(script|a|code|img)\b", page) and page.count("<h1>") == 1
    assert "&lt;script&gt;alert(1)&lt;/script&gt; [a](http://evil) | ${name} `&amp;copy;`" in page, "as it was written"
    assert not {"\x1b", "\u202e"} & set(body) and "http://" not in body, "which GitHub would make a link of"
    for line in body.splitlines():
        if line.startswith("|"):
            assert len(re.findall(r"(?<!\\)\|", line)) in (3, 6, 10), line


def test_plain_text_is_one_line() -> None:
    assert plain(" a\r\n\tb\u2028c ") == "a b c" and plain("a_b*c") == r"a\_b\*c"

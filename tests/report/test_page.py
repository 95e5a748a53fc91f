"""report.html: claims no more than the numbers allow, escapes user text, loads nothing, and explains each dash."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from recdistill.errors import UserError
from recdistill.evaluate.summary import Bin, Curve, Details, Slice, Summary, TaskSummary, Transfer, Transferability
from recdistill.report.page import render, write_report
from tests.support.summaries import START, sample_summary, withheld_summary

HOSTILE = "<script>alert('x')</script>\"&$name"


def with_details(summary: Summary, details: Details) -> Summary:
    """Return the summary with other details of every student."""
    students = {n: s.model_copy(update={"details": details}) for n, s in summary.students.items()}
    return summary.model_copy(update={"students": students})


class Page(HTMLParser):
    """Counts what matters of a page: tags left open, and anything that runs or loads."""

    VOID = {"meta", "link", "input", "path", "br"}

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.loads: list[str] = []
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.loads += [v or "" for k, v in attrs if k in ("src", "href", "xlink:href", "srcset", "action")]
        self.loads += [k for k, _ in attrs if k.startswith("on")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open.pop() == tag, tag

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.mark.parametrize("summary", [sample_summary(), withheld_summary()], ids=["full", "withheld"])
def test_the_page_is_whole_and_loads_nothing(summary: Summary) -> None:
    text = render(summary)
    page = Page(text)
    assert page.open == []
    assert set(page.loads) == {"data:,"}
    assert not {"script", "iframe", "img", "object"} & set(page.tags)
    assert "url(" not in text and "@import" not in text and "http" not in text.replace("http-equiv", "")
    assert not re.search(r"\$\w|\bnan\b|\bNone\b|\binf\b", text)


def test_what_a_user_wrote_is_escaped_everywhere() -> None:
    full = sample_summary()
    first = full.students["din-16"].details
    details = first.model_copy(
        update={
            "curves": {HOSTILE: first.curves["raw"], **first.curves},
            "calibration": {HOSTILE: first.calibration["raw"]},
            "slices": [Slice(slice=HOSTILE, value=HOSTILE, rows=1, metrics={"raw": {"gauc": 0.5}}, why=HOSTILE)],
        }
    )
    hostile_model = full.models.raw.model_copy(
        update={
            "auc": None,
            "dense_parameters": None,
            "why": {"auc": HOSTILE, "dense_parameters": HOSTILE},
            "settings": {"kind": HOSTILE, "weight": HOSTILE},
            "gauc_by": {HOSTILE: 0.5, "user": 0.5},
        }
    )
    withheld = Transferability(auc=Transfer(why=HOSTILE), gauc=Transfer(why=HOSTILE), ne=Transfer(why=HOSTILE))
    student = full.students["din-16"].model_copy(
        update={"raw": hostile_model, "transferability": withheld, "details": details}
    )
    text = render(
        full.model_copy(
            update={
                "name": HOSTILE,
                "group": HOSTILE,
                "tasks": [HOSTILE, HOSTILE],
                "transferability": withheld,
                "students": {HOSTILE: student, "b": student},
                "further_tasks": {HOSTILE: TaskSummary(rows=1, teacher=hostile_model, students={HOSTILE: student})},
                "models": full.models.model_copy(update={"raw": hostile_model}),
                "versions": full.versions.model_copy(update={"packages": {HOSTILE: HOSTILE}}),
            }
        )
    )
    page = Page(text)
    assert "script" not in page.tags and page.open == []
    assert page.text.count("<script>") > 10


def test_what_is_missing_is_a_dash_with_its_reason() -> None:
    text = render(withheld_summary())
    assert 'title="no user has both a click and a miss">–' in text
    assert "Without a number: GAUC: no user has both a click and a miss; Calibration: not measured;" in text
    for sentence in ("recorded no curves", "recorded no calibration", "has no slices", "the run gave no window"):
        assert sentence in text


def test_students_with_other_seeds_are_not_called_paired() -> None:
    summary = sample_summary()
    assert "not the same" not in render(summary)
    raw = summary.models.raw.model_copy(update={"seeds": [7]})
    students = summary.students | {"din-8": summary.students["din-8"].model_copy(update={"raw": raw})}
    assert "raw 7; distilled 0, 1, 2, 3, 4: not the same" in render(summary.model_copy(update={"students": students}))


def test_every_student_has_its_own_headline_numbers_and_settings() -> None:
    text = Page(render(sample_summary())).text
    assert "din-16 62\u202f% of the teacher’s gain arrived (GAUC, 95\u202f% interval 51–70\u202f%)" in text
    assert "din-8 31\u202f% of the teacher’s gain arrived (GAUC, 95\u202f% interval 20–39\u202f%)" in text
    for shown in (
        "student din-16 scores GAUC 0.7392",
        "student din-8 scores GAUC 0.7392",
        "0.7525",
        "Over time din-8",
        "din, width 8, history 20; distilled with weight 1.0, decoupled towers, cross-entropy",
    ):
        assert shown in text
    for student in sample_summary().students:
        alone = sample_summary().model_copy(update={"students": {student: sample_summary().students[student]}})
        assert student in Page(render(alone)).text and "Details of" not in render(alone)


def test_a_students_harm_is_not_hidden_behind_anothers_gain() -> None:
    summary = sample_summary()
    hurt = Transferability(**dict.fromkeys(("auc", "gauc", "ne"), Transfer(eta=-0.2, low=-0.3, high=-0.1)))
    students = summary.students | {"din-8": summary.students["din-8"].model_copy(update={"transferability": hurt})}
    text = Page(render(summary.model_copy(update={"students": students}))).text
    assert "video-feed: Transfer shown, Harm shown" in text and "Harm showndin-8 Distillation hurt: −20" in text


def test_every_task_has_its_row_for_every_student() -> None:
    text = render(sample_summary())
    for row in ("click <small>din-16", "click <small>din-8", "finish <small>din-16", "finish <small>din-8"):
        assert row in text
    assert "Every task" not in render(sample_summary().model_copy(update={"further_tasks": {}}))


def test_the_page_shows_the_numbers_of_the_summary() -> None:
    text = Page(render(sample_summary())).text
    for shown in (
        "0.7392",
        "0.7657",
        "0.7820",
        "video-feed",
        "din-8",
        "New items",
        "0.1.0",
        "4.2\u202fM",
        "98.1\u202f%",
    ):
        assert shown in text
    assert "51–70\u202f%" in text


@pytest.mark.parametrize(
    "details",
    [
        Details(curves={"teacher": Curve(time=[START], metrics={"auc": [0.7]})}),
        Details(curves={"teacher": Curve(time=[START], metrics={"auc": [None]}), "raw": Curve(time=[], metrics={})}),
        Details(calibration={"raw": [Bin(predicted=0.0, observed=0.0, count=3)]}),
        Details(calibration={"raw": [Bin(predicted=p, observed=0.0, count=3) for p in (1e-300, 1.0)]}),
        Details(calibration={"raw": [Bin(predicted=0.5, observed=0.5, count=0)]}),
        Details(slices=[Slice(slice="hour", value="1", rows=0, metrics={})]),
    ],
)
def test_scant_details_still_make_a_page(details: Details) -> None:
    assert Page(render(with_details(sample_summary(), details))).open == []


def test_the_report_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    write_report(sample_summary(), tmp_path / "out" / "report.html")
    assert (tmp_path / "out" / "report.html").read_text(encoding="utf-8").endswith("</html>\n")
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        write_report(sample_summary(), tmp_path / "file" / "report.html")

"""The report's tables: a reason for every dash, students told apart, rows shared out as bars."""

from __future__ import annotations

from recdistill.evaluate.summary import Transfer
from recdistill.report.tables import cards, cost, measured, tasks, transfer
from tests.support.summaries import sample_summary, withheld_summary


def test_a_withheld_eta_shows_its_reason_and_no_scale() -> None:
    page = transfer(withheld_summary())
    assert page.count("no claim: the teacher&#x27;s gain is inside the noise") == 2
    assert "raw student, 100" not in page  # nothing is drawn, so there is no scale to explain


def test_an_interval_beyond_the_scale_does_not_stretch_it() -> None:
    summary = sample_summary()
    wide = Transfer(eta=0.5, low=-30.0, high=40.0, teacher_gain=0.04)
    first = summary.students["din-16"]
    stretched = first.model_copy(update={"transferability": first.transferability.model_copy(update={"gauc": wide})})
    page = transfer(summary.model_copy(update={"students": {"din-16": stretched}}))
    assert "−100\u202f%" in page and "200\u202f%" in page and ">−200\u202f%" not in page
    assert "−3000\u202f% to 4000\u202f%" in page


def test_cards_hold_the_gain_over_the_raw_student() -> None:
    summary = sample_summary()
    student = summary.students["din-16"]
    page = cards(summary, student, "gauc")
    gain = student.distilled.gauc - student.raw.gauc  # type: ignore[operator]
    assert f"+{gain:.4f} against the raw student" in page and "baseline of the claim" in page
    assert page.index("Raw student") < page.index("Distilled student") < page.index("Teacher")


def test_costs_name_each_student_where_there_are_several() -> None:
    page = cost(sample_summary())
    assert all(name in page for name in ("Distilled din-16", "Raw din-8", "Teacher"))
    assert "Distilled student" in cost(withheld_summary())


def test_one_task_needs_no_table_of_tasks() -> None:
    assert tasks(withheld_summary(), "auc") == ""
    page = tasks(sample_summary(), "gauc")
    assert page.count("<tr>") == 1 + 2 * 2  # head; two tasks of two students


def test_what_was_not_recorded_is_a_dash_with_its_reason() -> None:
    page = measured(withheld_summary())
    assert page.count("(not recorded)") == 3 and "(the run gave no window)" in page
    assert "events 41; predictions 117" in measured(sample_summary())

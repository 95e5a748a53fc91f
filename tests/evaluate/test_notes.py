"""Parts of a summary in words."""

from __future__ import annotations

from recdistill.evaluate.notes import lost_note, training_of, widest_note
from recdistill.evaluate.summary import ModelSummary, Transfer


def test_what_training_took_as_far_as_it_is_known() -> None:
    whole = ModelSummary(rows_learned=3_600_000, steps=900, seconds=12.34, flops=2.5e12)
    assert training_of(whole) == "3,600,000 rows, 900 steps, 12.3 s, 2.5 TFLOP"
    assert training_of(ModelSummary(seconds=1.0)) == "1.0 s" and training_of(ModelSummary()) == ""


def test_the_metrics_on_which_a_teacher_loses() -> None:
    assert lost_note(Transfer(eta=0.5, loses_on=["auc", "ne"])) == " (the teacher loses on AUC, NE)"
    assert lost_note(Transfer(eta=0.5)) == ""


def test_intervals_where_others_are_drawn_and_the_widest() -> None:
    eta = Transfer(eta=0.5, intervals={"user": (0.4, 0.6), "item": (0.3, 0.7), "time": (None, None)}, widest="time")
    assert widest_note(eta) == (
        "interval with others drawn: items 30 to 70 %, stretches of time not bounded; "
        "the widest is over stretches of time"
    )
    assert widest_note(Transfer(why="withheld")) == ""

"""The report's plots of one student."""

from __future__ import annotations

import re

from recdistill.evaluate.summary import Bin, Details
from recdistill.report.plots import calibration, curves, gain_strip
from tests.support.summaries import sample_summary, withheld_summary


def places(page: str) -> list[float]:
    """Return where the dots of a strip stand, from the left, in per cent."""
    return [float(found) for found in re.findall(r'class="dot [^"]*" style="left:([\d.]+)%', page)]


def test_the_strip_places_the_models_by_their_metric() -> None:
    summary = sample_summary()
    student = summary.students["din-16"]
    raw, distilled, teacher = places(gain_strip(summary, student, "gauc"))
    share = (distilled - raw) / (teacher - raw)
    eta = student.transferability.gauc.eta
    assert eta is not None and abs(share - eta) < 0.01


def test_models_that_hardly_differ_stand_close_together() -> None:
    summary = sample_summary()
    base = summary.students["din-16"]
    near = base.model_copy(
        update={
            "raw": base.raw.model_copy(update={"gauc": 0.75}),
            "distilled": base.distilled.model_copy(update={"gauc": 0.7501}),
            "teacher": summary.models.teacher.model_copy(update={"gauc": 0.7502}),
        }
    )
    strip = places(gain_strip(summary, near, "gauc"))
    assert strip == sorted(strip) and strip[-1] - strip[0] < 10


def test_without_a_metric_of_every_model_there_is_no_strip() -> None:
    summary = withheld_summary()
    assert gain_strip(summary, summary.students["student"], "gauc") == ""


def test_the_headlines_metric_is_the_first_tab() -> None:
    page = curves(sample_summary().students["din-16"], "ne", 0)
    checked = re.search(r'id="curve-0-(\w+)" checked', page)
    assert checked is not None and checked[1] == "ne"


def test_click_rates_are_drawn_on_logarithmic_axes_and_others_are_not() -> None:
    base = sample_summary().students["din-16"]

    def page(*predicted: float) -> str:
        bins = [Bin(predicted=p, observed=p, count=5) for p in predicted]
        return calibration(base.model_copy(update={"details": Details(calibration={"raw": bins})}))

    assert "logarithmic" in page(0.001, 0.04) and "logarithmic" not in page(0.2, 0.4)
    assert "logarithmic" not in page(0.0, 0.4)
    nothing = [Bin(predicted=0.001, observed=0.0, count=5), Bin(predicted=0.04, observed=0.04, count=5)]
    cut = calibration(base.model_copy(update={"details": Details(calibration={"raw": nothing})}))
    assert "below 1e-06 is drawn there" in cut and "is drawn there" not in page(0.001, 0.04)

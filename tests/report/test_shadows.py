"""The report's shadows: what was served stands above the shadow, whose gain stands with its interval."""

from recdistill.evaluate.summary import Shadow
from recdistill.report.shadows import shadows
from tests.support.summaries import sample_summary, withheld_summary


def test_the_served_version_comes_first_and_the_gain_stands_with_the_shadow() -> None:
    text = shadows(sample_summary())
    served, shadow = text.index("served.v3"), text.index("shadow.v4")
    assert served < shadow < text.index("+0.0081 (+0.0012, +0.0150)")
    assert "0.7310" in text[served:shadow] and "0.7391" in text[shadow:] and "din-16.distilled.s0" in text


def test_a_figure_that_is_not_there_is_a_dash_with_its_reason_and_names_are_escaped() -> None:
    summary = sample_summary()
    odd = summary.shadows[0].model_dump() | {"shadow": "<b>", "task": "<i>"}
    odd["models"]["shadow"] |= {"gauc": None, "why": {"gauc": "the log has no <users>"}}
    text = shadows(summary.model_copy(update={"shadows": [Shadow.model_validate(odd)]}))
    assert "the log has no &lt;users&gt;" in text and "<b>" not in text and "<i>" not in text


def test_without_a_shadow_there_is_no_section() -> None:
    assert shadows(withheld_summary()) == ""

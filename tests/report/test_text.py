"""How the report writes numbers."""

from __future__ import annotations

from recdistill.report.text import number, percent


def test_numbers_carry_a_real_minus_and_missing_ones_a_dash() -> None:
    assert [number(-0.5, 1), number(0.25, 2, sign=True), number(None)] == ["−0.5", "+0.25", "–"]
    assert [percent(-0.055, 1), percent(None)] == ["−5.5\u202f%", "–"]

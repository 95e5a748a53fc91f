"""The page of a scaling study is written whole, next to its JSON."""

from __future__ import annotations

from pathlib import Path

from recdistill.evaluate.scaling_laws import Law, Scaling, Size, Value
from recdistill.report.scaling import render, write_scaling


def value(number: float) -> Value:
    return Value(value=number, low=number - 0.01, high=number + 0.01)


def study() -> Scaling:
    """Return a study of two widths and their law."""
    sizes = [
        Size(
            name=f"width-{x}",
            axis="width",
            x=x,
            changes={"width": x},
            dense_parameters=100 * x,
            flops=1000,
            rows_per_second=None,
            gauc=value(0.7),
            auc=value(0.75),
            ne=value(0.9 - x / 1000),
        )
        for x in (8, 16)
    ]
    law = Law(
        axis="width", first=8.0, floor=value(0.5), factor=value(0.4), exponent=value(0.1), error=0.0, monotone=False
    )
    return Scaling(name="a & b", rows=12_345, seeds=[0, 1], confidence=0.9, sizes=sizes, laws=[law])


def test_the_page_shows_sizes_law_and_interval() -> None:
    page = render(study())
    assert "a &amp; b" in page and "12\u202f345" in page and "90 %" in page
    assert "embedding width, log scale" in page and "not every size is better than the one before" in page
    assert page.count("<tr><th>width-") == 2 and "1,600" in page


def test_page_and_json_are_written(tmp_path: Path) -> None:
    write_scaling(study(), tmp_path)
    assert Scaling.model_validate_json((tmp_path / "scale.json").read_text()) == study()
    assert (tmp_path / "scale.html").read_text(encoding="utf-8") == render(study())

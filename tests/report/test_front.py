"""The picture of a choice: where its dots are, and what of it is escaped."""

from __future__ import annotations

from xml.etree import ElementTree

from recdistill.evaluate.choice import Budget, Choice, Cost, Tried
from recdistill.report.choice import render
from recdistill.report.front import COLOURS, HIGH, TOP, front_svg

DOT = "{http://www.w3.org/2000/svg}circle"


def tried(name: str, score: float, cost: float, left_out: str | None = None) -> Tried:
    costs = Cost(latency_ms=cost, memory_mib=10 * cost)
    return Tried(
        name=name, changes={}, rows=9, seeds=2, raw=score - 0.1, distilled=score, cost=costs, left_out=left_out
    )


def choice_of(students: list[Tried]) -> Choice:
    return Choice(
        name="x",
        metric="gauc",
        budget=Budget(),
        candidates=20,
        teacher=0.85,
        tried=students,
        recommended="b",
        reasons=[],
    )


def dots(choice: Choice) -> list[ElementTree.Element]:
    return [one for one in ElementTree.fromstring(front_svg(choice)).iter(DOT) if len(one)]


def test_dearer_is_to_the_right_and_better_above_and_who_was_left_out_is_not_there() -> None:
    students = [tried("<a>", 0.7, 1.0), tried("b", 0.8, 2.0), tried("c", 0.9, 3.0, "round 1")]
    found = dots(choice_of(students))
    titles = [next(iter(one)).text for one in found]
    each = ["<a>, raw: 0.6000", "<a>, distilled: 0.7000", "b, raw: 0.7000", "b, distilled: 0.8000"]
    assert titles == each * 2 and {one.get("fill") for one in found} == {*COLOURS.values()}
    for plot in (found[:4], found[4:]):
        x, y = ([float(one.get(key) or "") for one in plot] for key in ("cx", "cy"))
        assert x[0] == x[1] < x[2] == x[3] and y[0] > y[1] == y[2] > y[3]
        assert all(TOP <= at <= TOP + HIGH for at in y)


def test_what_is_drawn_and_listed_is_what_is_served() -> None:
    whole, small = Cost(latency_ms=2.0, memory_mib=20.0), Cost(latency_ms=1.0, memory_mib=10.0, lost=0.05)
    one = tried("b", 0.8, 2.0).model_copy(update={"cost": small.model_copy(update={"whole": whole})})
    choice = choice_of([one])
    raw, served = dots(choice)[:2]
    assert [next(iter(dot)).text for dot in (raw, served)] == ["b, raw: 0.7000", "b, distilled: 0.7500"]
    assert float(raw.get("cx") or "") > float(served.get("cx") or ""), "the raw one was scored with whole rows"
    assert "0.7500" in render(choice) and "0.8000" not in render(choice).replace("0.8000</span>", "")

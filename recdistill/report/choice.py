"""The page of a choice: quality against latency and bytes, and every student that was tried."""

from __future__ import annotations

from collections.abc import Callable
from html import escape
from pathlib import Path

from recdistill.evaluate.choice import Budget, Choice, Cost, Step, Tried, correction
from recdistill.evaluate.summary import LABELS, write_atomic
from recdistill.report.charts import Series, linear_axis, scatter_chart
from recdistill.report.front import front_svg, scored
from recdistill.report.page import page
from recdistill.report.text import count, number, swatches

__all__ = ["render", "write_choice"]

KINDS = ("raw", "distilled")


def render(choice: Choice) -> str:
    """Return the page as HTML text; everything taken from `choice` is escaped."""
    return page(
        f"Choice: {choice.name}",
        "choice.html",
        name=escape(choice.name),
        recommended=escape(choice.recommended),
        reasons=escape("; ".join(choice.reasons)),
        metric=LABELS[choice.metric],
        candidates=f"{choice.candidates:,}",
        budget=_budget(choice.budget),
        legend=swatches([("distilled", "c-distilled"), ("raw", "c-raw")]),
        latency=_figure(choice, lambda cost: cost.latency_ms, "milliseconds at the 99th percentile"),
        memory=_figure(choice, lambda cost: cost.memory_mib, "MiB of the artefact"),
        recipe=_recipe(choice),
        table="".join(_row(one, choice) for one in choice.tried),
    )


def _budget(budget: Budget) -> str:
    parts = [
        *([f"{budget.latency_ms:g} ms"] if budget.latency_ms is not None else []),
        *([f"{budget.memory_mib:g} MiB"] if budget.memory_mib is not None else []),
    ]
    return " and ".join(parts) or "none"


def _figure(choice: Choice, taken: Callable[[Cost], float], name: str) -> str:
    dots = sorted(scored(choice), key=lambda dot: taken(dot.cost))
    series = [_series(kind, [(taken(dot.cost), dot.score) for dot in dots if dot.kind == kind]) for kind in KINDS]
    x, y = linear_axis([at for one in series for at in one.x], zero=True), [at for one in series for at in one.y]
    label = LABELS[choice.metric]
    return scatter_chart(
        series, x, linear_axis([choice.teacher, *y]), (name, label), f"{label} over {name}", choice.teacher
    )


def _series(kind: str, points: list[tuple[float, float]]) -> Series:
    return Series(kind, f"c-{kind}", [x for x, _ in points], [y for _, y in points])


def _recipe(choice: Choice) -> str:
    """Return the section on what each step of the recipe brought, nothing where it was not tried."""
    if not choice.recipe:
        return ""
    before = [None, *(step.quality for step in choice.recipe)]
    last, heads = choice.recipe[-1], ("Step", LABELS[choice.metric], "brought", "p99, ms", "MiB")
    return (
        "<section>\n<h2>What each step of the recipe brought</h2>\n"
        f'<div class="wide"><table><thead><tr>{"".join(f"<th>{head}</th>" for head in heads)}</tr></thead>'
        f"<tbody>{''.join(map(_step, choice.recipe, before))}</tbody></table></div>\n"
        f'<p class="note">Of {count(last.rows)} rows, means of {last.seeds} seeds. {escape(correction(choice.stale))}. '
        "What rows of int8 cost was measured on samples that the student had learned.</p>\n</section>"
    )


def _step(step: Step, before: float | None) -> str:
    gain = None if step.quality is None or before is None else step.quality - before
    cost = [f"{step.cost.latency_ms:.2f}", f"{step.cost.memory_mib:,.1f}"]
    data = "".join(f"<td>{cell}</td>" for cell in (number(step.quality), number(gain, sign=True), *cost))
    return f"<tr><th>{escape(step.name)}</th>{data}</tr>"


def _row(one: Tried, choice: Choice) -> str:
    changed = ", ".join(f"{key}: {value}" for key, value in one.changes.items())
    changed += ", rows as int8" if one.cost.whole is not None else ""
    note = one.left_out or ("recommended" if one.name == choice.recommended else "on the front" if one.front else "")
    cells = [
        f"{one.rows:,}".replace(",", "\u202f"),
        str(one.seeds),
        number(one.raw),
        number(one.served),
        f"{one.cost.latency_ms:.2f}",
        f"{one.cost.memory_mib:,.1f}",
        escape(note),
    ]
    data = "".join(f"<td>{cell}</td>" for cell in cells)
    return f"<tr><th>{escape(one.name)}<small>{escape(changed)}</small></th>{data}</tr>"


def write_choice(choice: Choice, folder: Path) -> None:
    """Write choice.json, choice.html and the picture front.svg into `folder`, each atomically; UserError when that
    cannot be done.
    """
    html = render(choice)  # before anything is written
    write_atomic(choice.model_dump_json(indent=2) + "\n", folder / "choice.json")
    write_atomic(front_svg(choice), folder / "front.svg")
    write_atomic(html, folder / "choice.html")

"""The page of an ablation: one figure, one table."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path

from recdistill.config.experiment import ControlName
from recdistill.evaluate.ablation import Ablation, Method
from recdistill.evaluate.paired import Difference
from recdistill.evaluate.summary import LABELS, write_atomic
from recdistill.report.charts import Axis, linear_axis, whisker
from recdistill.report.controls import share
from recdistill.report.page import page
from recdistill.report.text import number, percent

__all__ = ["render", "signed", "write_ablation"]


def render(ablation: Ablation) -> str:
    """Return the page as HTML text; everything taken from `ablation` is escaped."""
    controls = list(dict.fromkeys(control for method in ablation.methods for control in method.beyond))
    etas = [method.transferability.metric(ablation.metric) for method in ablation.methods]
    ends = [value for eta in etas for value in (eta.eta, eta.low, eta.high) if value is not None]
    axis = linear_axis([max(-1.0, min(2.0, value)) for value in [0.0, 1.0, *ends]], about=5)
    return page(
        f"Ablation: {ablation.name}",
        "ablation.html",
        name=escape(ablation.name),
        metric=LABELS[ablation.metric],
        confidence=f"{100 * ablation.confidence:g}",
        teacher=number(ablation.teacher),
        rows=f"{ablation.rows:,}".replace(",", "\u202f"),
        seeds=len(ablation.seeds),
        figure="".join(_bar(method, ablation.metric, axis) for method in ablation.methods),
        scale="".join(
            f'<span style="left:{axis.place(value):.1f}%">{percent(value)}</span>' for value, _ in axis.marks
        ),
        beyond="".join(f"<th>{LABELS[ablation.metric]} beyond {control}</th>" for control in controls),
        table="".join(_row(method, ablation.metric, controls) for method in ablation.methods),
        first=escape(ablation.first),
        over="".join(_over_first(method) for method in ablation.methods),
    )


def _bar(method: Method, metric: str, axis: Axis) -> str:
    eta, start = method.transferability.metric(metric), f'<div class="row"><span>{escape(method.name)}</span>'
    if eta.eta is None:
        return f"{start}<em>no claim: {escape(eta.why or '')}</em></div>"
    figures = f"<b>{percent(eta.eta)}</b> <small>{percent(eta.low)} to {percent(eta.high)}</small>"
    return f"{start}{whisker(eta.eta, eta.low, eta.high, axis)}<span>{figures}</span></div>"


def _row(method: Method, metric: str, controls: Sequence[ControlName]) -> str:
    changed = ", ".join(f"{key}: {value}" for key, value in method.changes.items())
    etas = (method.transferability.metric(name) for name in method.transferability.names)
    cells = [
        number(method.raw),
        number(method.distilled),
        *(percent(eta.eta) for eta in etas),
        *(share(method.beyond[control].metric(metric)) if control in method.beyond else "–" for control in controls),
        *(number(times, 2) for times in (method.step_cost, method.rows_learned, method.seconds)),
        f"{method.bytes_per_sample:,}",
        percent(method.coverage),
    ]
    return (
        f"<tr><th>{escape(method.name)}<small>{escape(changed)}</small></th>"
        f"{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"
    )


def _over_first(method: Method) -> str:
    over = method.over_first
    if over is None:
        return ""
    cells = [signed(over.raw), signed(over.distilled), number(over.raw_flops, 2), number(over.distilled_flops, 2)]
    return f"<tr><th>{escape(method.name)}</th>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"


def signed(found: Difference | None) -> str:
    """Return a difference with its interval as text."""
    return "–" if found is None else f"{found.value:+.4f} ({found.low:+.4f} to {found.high:+.4f})"


def write_ablation(ablation: Ablation, folder: Path) -> None:
    """Write ablation.json and ablation.html into `folder`, each atomically; UserError when that cannot be done."""
    write_atomic(ablation.model_dump_json(indent=2) + "\n", folder / "ablation.json")
    write_atomic(render(ablation), folder / "ablation.html")

"""The report's shadows: versions that scored the live traffic, against those that answered it; texts are escaped."""

from __future__ import annotations

from html import escape

from recdistill.evaluate.summary import LABELS, ModelSummary, Shadow, Summary
from recdistill.report.text import count, missing, number

__all__ = ["shadows"]


def shadows(summary: Summary) -> str:
    """Return the section of the versions that scored live traffic; empty without any."""
    if not summary.shadows:
        return ""
    tables = "".join(
        _task(task, [one for one in summary.shadows if one.task == task])
        for task in dict.fromkeys(one.task for one in summary.shadows)
    )
    intro = (
        "A shadow scores requests that another version answers. Both are held against the outcomes, on the samples "
        f"that both scored; below the shadow what it gains, with the {100 * summary.confidence:g}\u202f% interval over "
        "users (positive: the shadow is better)."
    )
    return f'<section><h2>Shadows</h2><p class="intro">{intro}</p>{tables}</section>'


def _task(task: str, pairs: list[Shadow]) -> str:
    names = pairs[0].models["shadow"].metrics
    head = "".join(f"<th>{LABELS[name]}</th>" for name in names)
    body = "".join(_pair(one, names) for one in pairs)
    return (
        f'<table class="cost"><thead><tr><th>{escape(task)}</th><th>samples</th>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table>"
    )


def _pair(pair: Shadow, names: tuple[str, ...]) -> str:
    """Return the row of the served version, and that of the shadow with what it gains."""
    served, shadow = pair.models["served"], pair.models["shadow"]
    return _row(pair.served, served, pair, names, gains=False) + _row(pair.shadow, shadow, pair, names, gains=True)


def _row(name: str, model: ModelSummary, pair: Shadow, names: tuple[str, ...], gains: bool) -> str:
    exported = model.settings.get("exported")
    about = f"<small>{escape(str(exported))}</small>" if exported else ""
    cells = "".join(
        f'<td data-name="{LABELS[metric]}">{_metric(model, metric)}{_gain(pair, metric) if gains else ""}</td>'
        for metric in names
    )
    return f'<tr><th>{escape(name)} {about}</th><td data-name="samples">{count(pair.rows)}</td>{cells}</tr>'


def _metric(model: ModelSummary, metric: str) -> str:
    value = model.metric(metric)
    return missing(model.why.get(metric)) if value is None else number(value)


def _gain(pair: Shadow, metric: str) -> str:
    value, low, high = pair.gains.get(metric, (None, None, None))
    if value is None:
        return ""
    bounds = ", ".join(number(one, sign=True) for one in (low, high))
    return f"<br><small>{number(value, sign=True)} ({bounds})</small>"

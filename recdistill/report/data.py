"""The report's section on the log itself: what it holds, feature by feature; every text of the user's is escaped."""

from __future__ import annotations

from html import escape

from recdistill.evaluate.data_summary import DataSummary, FeatureSummary, Ids
from recdistill.evaluate.summary import Summary
from recdistill.report.text import count, missing, moment, number, percent

__all__ = ["data"]

HEADS = ("Kind", "Empty", "Values", "Buckets", "As a value", "Most frequent", "AUC alone")


def data(summary: Summary) -> str:
    """Return the section; empty for a summary without it."""
    if summary.data is None:
        return ""
    facts = "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in _facts(summary.data))
    return (
        f'<section><h2>The log</h2><dl class="facts">{facts}</dl>{_notes(summary.data)}'
        f"{_features(summary.data, summary.tasks[0])}</section>"
    )


def _facts(found: DataSummary) -> list[tuple[str, str]]:
    rates = (f"{escape(one.task)} {percent(one.positive, 1)} of {count(one.rows)} known" for one in found.tasks)
    per_request = number(found.rows / found.requests, 1) if found.requests else missing("the log has no request ids")
    return [
        ("Impressions", count(found.rows)),
        ("Time", _span(found)),
        ("Users", missing("the log has no users") if found.users is None else _ids(found.users)),
        ("Items", _ids(found.items)),
        ("Positive", ", ".join(rates)),
        ("Rows per request", per_request),
        ("Repeated rows", _repeated(found)),
        *((f"Sequence {escape(one.sequence)}", one.words()) for one in found.sequences),
    ]


def _notes(found: DataSummary) -> str:
    return "".join(f'<p class="note">When it was read: {escape(note)}.</p>' for note in found.notes)


def _span(found: DataSummary) -> str:
    if found.first is None or found.last is None:
        return missing("the log has no times: rows count in the order given")
    return f"{moment(found.first)} to {moment(found.last)} UTC"


def _repeated(found: DataSummary) -> str:
    if found.repeated is None:
        return missing("the log lacks users or times")
    return f"{count(found.repeated)} with user, item and time of an earlier one"


def _ids(ids: Ids) -> str:
    return f"{count(ids.distinct)}, of which {count(ids.once)} in one row only"


def _features(found: DataSummary, task: str) -> str:
    """Return the table of features; empty without any."""
    if not found.features:
        return ""
    intro = (
        "Empty: share of the rows without a value. Values: different ones, of numbers an estimate from 4 096 on. A "
        "model sees a number as one of the buckets and as a value, scaled by what the first rows hold; slog is the "
        "logarithm of 1 + |x| with the sign of x. Most frequent: share of the other rows with the most frequent "
        f"value or bucket. AUC alone: of scoring {escape(task)} by the rate of other rows with the same value; near "
        "1, the feature is the label."
    )
    head = "".join(f"<th>{name}</th>" for name in HEADS)
    body = "".join(_row(one, task) for one in found.features)
    table = f'<table class="cost"><thead><tr><th></th>{head}</tr></thead><tbody>{body}</tbody></table>'
    return f'<p class="intro">{intro}</p>{table}'


def _row(one: FeatureSummary, task: str) -> str:
    alone = one.auc.get(task)
    cells = (
        one.kind,
        percent(one.empty, 1),
        count(one.values),
        missing("not a number") if one.buckets is None else f"{count(one.buckets)}, {one.edges}",
        missing("not a number") if one.scale is None else escape(one.scale),
        missing("a list, or without values") if one.largest is None else percent(one.largest, 1),
        missing("too few rows of one class") if alone is None else number(alone, 3),
    )
    shown = "".join(f'<td data-name="{name}">{cell}</td>' for name, cell in zip(HEADS, cells, strict=True))
    return f"<tr><th>{escape(one.feature)}</th>{shown}</tr>"

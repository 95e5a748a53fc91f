"""`model-card.md`: what a run's models are, how good they are and what that does not show. Markdown for a repository or
a registry, with the YAML header that model hubs read (`model-index`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

import yaml

from recdistill.evaluate.headline import headlines
from recdistill.evaluate.notes import lost_note
from recdistill.evaluate.summary import (
    LABELS,
    ModelSummary,
    StudentSummary,
    Summary,
    TaskSummary,
    Transfer,
    write_atomic,
)
from recdistill.storage.location import Location

__all__ = ["render_card", "write_model_card"]

SHORTEST_SLICE = 100  # rows: of fewer, a loss is noise


def write_model_card(summary: Summary, lineage: Mapping[str, str], path: Location) -> None:
    """Write the card to `path`, atomically; raises UserError when it cannot be written."""
    write_atomic(render_card(summary, lineage), path)


def render_card(summary: Summary, lineage: Mapping[str, str]) -> str:
    """Return the card of a scored run; everything taken from the two is escaped."""
    parts = [
        f"# Model card: {plain(summary.name)}",
        _opening(summary),
        "## Intended use",
        _use(summary),
        "## Scores",
        *_scores(summary),
        "## What arrived of the teacher's gain",
        _transfer(summary),
        "## Data",
        _data(summary, lineage),
        "## Lineage",
        _table(("what", "from"), [(plain(key), plain(value)) for key, value in lineage.items()]),
        "## Limitations",
        _list(_limitations(summary)),
    ]
    return f"---\n{_header(summary, lineage)}---\n\n" + "\n\n".join(parts) + "\n"


def plain(text: object) -> str:
    """Return a text as one line that Markdown shows as it is: no tag, no link, no end of a table's cell."""
    safe = re.sub(r"([\\`*_\[\]#|~$])", r"\\\1", escape(_line(text), quote=False))
    return safe.replace("://", "&#58;//").replace("www.", "www&#46;")  # which Markdown would make links of


def _line(text: object) -> str:
    """Return a text as one line of what can be seen; a line of its own could end the header."""
    return " ".join("".join(mark if mark.isprintable() else " " for mark in str(text)).split())


def _header(summary: Summary, lineage: Mapping[str, str]) -> str:
    """Return the metadata as YAML: of each student the distilled model's metrics, and eta with its interval."""
    data = _line(lineage.get("data", "not recorded"))
    index = [
        {"name": _line(f"{summary.name}/{name}"), "results": [_result(summary, student, data)]}
        for name, student in summary.students.items()
    ]
    tree = {
        "library_name": "recdistill",
        "tags": ["recommendation", "ranking", "click-through-rate", "knowledge-distillation"],
        "metrics": list(summary.models.teacher.metrics),
        "created": summary.created.isoformat(),
        "model-index": index,
    }
    return yaml.safe_dump(tree, sort_keys=False, allow_unicode=True, width=120)


def _result(summary: Summary, student: StudentSummary, data: str) -> dict[str, Any]:
    metrics: list[dict[str, Any]] = [
        {"type": metric, "name": LABELS[metric], "value": value}
        for metric in student.distilled.metrics
        if (value := student.distilled.metric(metric)) is not None
    ]
    for metric in student.transferability.names:
        eta = student.transferability.metric(metric)
        if eta.eta is not None:
            ends = {"low": eta.low, "high": eta.high, "confidence": summary.confidence}
            metrics.append({"type": f"eta_{metric}", "name": f"eta ({LABELS[metric]})", "value": eta.eta} | ends)
    task = {"type": "click-through-rate-prediction", "name": _line(summary.tasks[0])}
    return {"task": task, "dataset": {"type": data.partition(":")[0], "name": data}, "metrics": metrics}


def _opening(summary: Summary) -> str:
    """Return what was trained and each student's headline."""
    lines = [
        f"**{plain(name)}**: {plain(line.text.rstrip('.'))}. {plain(line.gains)}."
        for name, line in headlines(summary).items()
    ]
    settings = summary.models.teacher.settings
    kind = settings.get("kind") or ("imported" if "imported" in settings else "")
    about = f"Light ranking models, distilled by recdistill from a large teacher{f' ({plain(kind)})' if kind else ''}."
    return f"{about} Each was trained once with the teacher's signals and once on labels alone.\n\n{_list(lines)}"


def _use(summary: Summary) -> str:
    tasks = ", ".join(plain(task) for task in summary.tasks)
    domains = [
        f"{plain(name)} only where {', '.join(f'{plain(key)} is {plain(value)}' for key, value in one.domain.items())}"
        for name, one in summary.students.items()
        if one.domain
    ]
    only = f" Meant for a part of the traffic: {'; '.join(domains)}." if domains else ""
    return (
        f"To order candidates for a user by the probability of: {tasks}. The students are meant to be served; the "
        f"teacher is too large for it and was used for training only.{only} Not meant for decisions about people, and "
        "not for a catalogue, a market or a log other than the one below without scoring it there first."
    )


def _scores(summary: Summary) -> list[str]:
    """Return a table per task; the first one's models are means over seeds."""
    first = TaskSummary(rows=summary.rows, teacher=summary.models.teacher, students=summary.students)
    found = []
    for task, one in {summary.tasks[0]: first, **summary.further_tasks}.items():
        rows = [("teacher", *_cells(one.teacher))]
        for name, student in one.students.items():
            rows.append((f"{plain(name)}, distilled", *_cells(student.distilled)))
            rows.append((f"{plain(name)}, labels alone", *_cells(student.raw)))
            if student.teacher:
                rows.append((f"teacher, where {plain(name)} serves", *_cells(student.teacher)))
        head = ("model", *(LABELS[metric] for metric in one.teacher.metrics), "dense parameters", "seeds")
        found += [f"Task {plain(task)}, {one.rows:,} impressions:", _table(head, rows)]
    seeds = (
        "Means over seeds, ± their standard deviation. Each impression was predicted before its outcome was learned."
    )
    return [*found, f"{seeds} GAUC is by {plain(summary.group)}."]


def _cells(model: ModelSummary) -> list[str]:
    cells = []
    for metric in model.metrics:
        value, std = model.metric(metric), model.std.get(metric)
        cells.append("-" if value is None else f"{value:.4f}" + (f" ± {std:.4f}" if std is not None else ""))
    size = "-" if model.dense_parameters is None else f"{model.dense_parameters:,}"
    return [*cells, size, str(len(model.seeds))]


def _transfer(summary: Summary) -> str:
    rows = [
        (plain(name), LABELS[metric], *_eta(student.transferability.metric(metric)))
        for name, student in summary.students.items()
        for metric in student.transferability.names
    ]
    meaning = "0 is the student on labels alone, 1 the teacher"
    head = ("student", "on", "eta", f"{100 * summary.confidence:g} % interval", "teacher's gain")
    return f"eta: {meaning}.\n\n{_table(head, rows)}"


def _eta(eta: Transfer) -> tuple[str, str, str]:
    gain = "-" if eta.teacher_gain is None else f"{eta.teacher_gain:+.4f}"
    if eta.eta is None:
        return "withheld", plain(eta.why), gain
    interval = "none" if eta.low is None or eta.high is None else f"{eta.low:+.3f} to {eta.high:+.3f}"
    return f"{eta.eta:+.3f}{lost_note(eta)}", interval, gain


def _data(summary: Summary, lineage: Mapping[str, str]) -> str:
    window, share = summary.window, summary.window.share
    times = f"{window.start:%Y-%m-%d %H:%M} to {window.end:%Y-%m-%d %H:%M} UTC" if window.start and window.end else "-"
    rows = [
        ("log", plain(lineage.get("data", "not recorded"))),
        ("scored", f"{summary.rows:,} impressions" + (f", after the first {share:.0%} of the log" if share else "")),
        ("their time", times),
        ("tasks", ", ".join(plain(task) for task in summary.tasks)),
        ("samples with a signal", "-" if summary.coverage is None else f"{summary.coverage:.1%}"),
    ]
    return _table(("what", "value"), rows)


def _limitations(summary: Summary) -> list[str]:
    """Return what the figures do not show, of this run first."""
    found = [f"{plain(line)}." for line in summary.warnings]
    if any(len(student.distilled.seeds) < 2 for student in summary.students.values()):
        found.append("One seed: how much another seed would differ is not known.")
    for name, student in summary.students.items():
        withheld = [
            LABELS[metric]
            for metric in student.transferability.names
            if student.transferability.metric(metric).eta is None
        ]
        if withheld:
            found.append(f"{plain(name)}: no claim on {', '.join(withheld)}; the table above gives the reason.")
        if lost := _lost(student):
            found.append(f"{plain(name)} scores below the student on labels alone (GAUC, not tested) in: {lost}.")
        if student.coverage is not None and student.coverage < 1:
            found.append(f"{plain(name)} had a signal for {student.coverage:.1%} of the samples.")
    return [
        *found,
        "Offline: scored on impressions that another system chose and placed. What was never shown has no label, and "
        "items placed on top were clicked for their place. Only a test on live traffic shows what serving this model "
        "brings.",
        "One log, one window: not tested on another market or season.",
        "No analysis by groups of people was made.",
    ]


def _lost(student: StudentSummary) -> str:
    """Return the slices where the distilled student is below its raw one."""
    lost = []
    for part in student.details.slices:
        raw, distilled = (part.metrics.get(model, {}).get("gauc") for model in ("raw", "distilled"))
        if raw is not None and distilled is not None and distilled < raw and part.rows >= SHORTEST_SLICE:
            lost.append(f"{plain(part.slice)} {plain(part.value)}")
    return ", ".join(lost)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _list(lines: Iterable[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)

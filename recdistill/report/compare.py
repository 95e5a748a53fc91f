"""Finished runs side by side: scores, what arrived of the teachers' gains, and where the configurations differ; as rows
that the command line prints, and as a page.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template

from recdistill.config.flat import flat
from recdistill.data.store.memmap import read_json
from recdistill.errors import UserError
from recdistill.evaluate.notes import lost_note
from recdistill.evaluate.summary import (
    ALL_METRICS,
    ETAS,
    LABELS,
    VALUE_ETAS,
    ModelSummary,
    Summary,
    TaskSummary,
    Transfer,
    load,
    write_atomic,
)
from recdistill.report.page import framed
from recdistill.report.text import why_note
from recdistill.storage.location import Location

__all__ = ["Comparison", "Finished", "Row", "compared", "finished", "render_comparison", "write_comparison"]

NONE = "–"
Pick = Callable[[TaskSummary], ModelSummary | None]


@dataclass(frozen=True)
class Finished:
    """A scored run: its folder as the user named it, what it claims, and its configuration, one level deep."""

    name: str
    summary: Summary
    configuration: Mapping[str, object]

    def task(self, name: str) -> TaskSummary | None:
        """Return the run's scores on one task, None for a task that it does not have."""
        mine = self.summary
        if name == mine.tasks[0]:
            return TaskSummary(rows=mine.rows, teacher=mine.models.teacher, students=mine.students)
        return mine.further_tasks.get(name)


@dataclass(frozen=True)
class Row:
    """What the runs have under one heading; a cell per run, empty where a run has no such thing."""

    of: str
    name: str
    cells: list[str]


@dataclass(frozen=True)
class Comparison:
    """The whole comparison. notes: why the figures of these runs are not comparable, and each run's warnings; withheld:
    why an eta is.
    """

    runs: list[str]
    scores: list[Row]
    etas: list[Row]
    facts: list[Row]
    keys: list[Row]
    notes: list[str]
    withheld: list[str]


def finished(root: Location) -> Finished:
    """Read a run's folder; UserError when it holds no run, or one that is not scored yet."""
    about, summary = root / "run.json", root / "summary.json"
    if not about.is_file():
        raise UserError(f"{root}: holds no run; name folders that recdistill run has made")
    if not summary.is_file():
        raise UserError(f"{root}: not scored yet; run: recdistill evaluate {root}")
    try:
        tree = read_json(about)
        configuration = flat(tree["experiment"]) | {"--data": tree["data"]}
        configuration.pop("tracking", None)  # which changes where a run is shown, and nothing in it
    except (ValueError, KeyError, TypeError):
        raise UserError(f"{about}: damaged; run the experiment again") from None
    return Finished(str(root), load(summary), configuration)


def compared(runs: Sequence[Finished]) -> Comparison:
    """Return runs side by side; students are matched by name. Raises UserError for fewer than two."""
    if len(runs) < 2:
        raise UserError("compare: name two runs or more")
    return Comparison(
        runs=[run.name for run in runs],
        scores=_scores(runs),
        etas=_etas(runs),
        facts=_facts(runs),
        keys=_keys(runs),
        notes=_notes(runs),
        withheld=_withheld(runs),
    )


def _scores(runs: Sequence[Finished]) -> list[Row]:
    found = []
    for task in _tasks(runs):
        for name, pick in _models(runs):
            models = [_model_of(run, task, pick) for run in runs]
            cells = {metric: [_score(model, metric) for model in models] for metric in ALL_METRICS}
            of = name if task == runs[0].summary.tasks[0] else f"{task}: {name}"
            found += [Row(of, LABELS[metric], row) for metric, row in cells.items() if any(row)]
    return found


def _tasks(runs: Sequence[Finished]) -> list[str]:
    return list(dict.fromkeys(task for run in runs for task in run.summary.tasks))


def _students(runs: Sequence[Finished]) -> list[str]:
    return list(dict.fromkeys(name for run in runs for name in run.summary.students))


def _models(runs: Sequence[Finished]) -> list[tuple[str, Pick]]:
    """Return what there is to score, by name, and how it is found in a run's task."""

    def of(name: str, kind: str) -> Pick:
        return lambda task: getattr(task.students[name], kind) if name in task.students else None

    found: list[tuple[str, Pick]] = [("teacher", lambda task: task.teacher)]
    for name in _students(runs):
        found += [(f"{name} {kind}", of(name, kind)) for kind in ("distilled", "raw")]
    return found


def _model_of(run: Finished, task: str, pick: Pick) -> ModelSummary | None:
    one = run.task(task)
    return None if one is None else pick(one)


def _score(model: ModelSummary | None, metric: str) -> str:
    value = model.metric(metric) if model else None
    if model is None or value is None:
        return ""
    std = model.std.get(metric)
    return f"{value:.4f}" + (f" ± {std:.4f}" if std is not None else "")


def _eta_of(run: Finished, task: str, name: str, metric: str) -> Transfer | None:
    one = run.task(task)
    etas = one.students[name].transferability if one and name in one.students else None
    return etas.metric(metric) if etas and metric in etas.names else None


def _etas(runs: Sequence[Finished]) -> list[Row]:
    found = []
    for task in _tasks(runs):
        for name in _students(runs):
            of = name if task == runs[0].summary.tasks[0] else f"{task}: {name}"
            rows = [
                (metric, [_eta(_eta_of(run, task, name, metric)) for run in runs]) for metric in (*ETAS, *VALUE_ETAS)
            ]
            found += [Row(of, f"eta, {LABELS[metric]}", cells) for metric, cells in rows if any(cells)]
    return found


def _eta(eta: Transfer | None) -> str:
    if eta is None:
        return ""
    if eta.eta is None:
        return "withheld"
    ends = "" if eta.low is None or eta.high is None else f" ({eta.low:+.3f} to {eta.high:+.3f})"
    return f"{eta.eta:+.3f}{ends}{lost_note(eta)}"


def _withheld(runs: Sequence[Finished]) -> list[str]:
    return [
        f"{run.name}, {name}, {LABELS[metric]}: {eta.why}"
        for run in runs
        for name in run.summary.students
        for metric in (*ETAS, *VALUE_ETAS)
        if (eta := _eta_of(run, run.summary.tasks[0], name, metric)) and eta.eta is None
    ]


def _facts(runs: Sequence[Finished]) -> list[Row]:
    """Return what was scored and what it cost."""

    def row(of: str, name: str, pick: Callable[[Summary], object]) -> Row:
        return Row(of, name, [str(pick(run.summary)) for run in runs])

    found = [
        row("scored", "impressions", lambda one: f"{one.rows:,}"),
        row("scored", "from", lambda one: one.window.start or ""),
        row("scored", "to", lambda one: one.window.end or ""),
        row("scored", "interval", lambda one: f"{100 * one.confidence:g} %"),
        row("run", "created", lambda one: f"{one.created:%Y-%m-%d %H:%M} UTC"),
    ]
    for name, pick in _models(runs):
        models = [_model_of(run, run.summary.tasks[0], pick) for run in runs]
        for key, title in (("dense_parameters", "dense parameters"), ("rows_per_second", "rows/s")):
            cells = [
                "" if model is None or getattr(model, key) is None else f"{getattr(model, key):,.0f}"
                for model in models
            ]
            found += [Row(name, title, cells)] if any(cells) else []
        found.append(Row(name, "seeds", ["" if model is None else str(len(model.seeds)) for model in models]))
    return found


def _keys(runs: Sequence[Finished]) -> list[Row]:
    """Return the keys whose values differ."""
    names = sorted({key for run in runs for key in run.configuration})
    rows = [Row("", key, [_value(run.configuration.get(key)) for run in runs]) for key in names]
    return [row for row in rows if len(set(row.cells)) > 1]


def _value(value: object) -> str:
    return "" if value is None else value if isinstance(value, str) else json.dumps(value)


def _notes(runs: Sequence[Finished]) -> list[str]:
    """Return what of the scoring differs, so that a difference of scores may be no difference of models, and the runs'
    warnings.
    """
    parts: dict[str, Callable[[Summary], object]] = {
        "the scored impressions": lambda one: (one.rows, one.window.start, one.window.end),
        "the first task": lambda one: one.tasks[0],
        "what GAUC is by": lambda one: one.group,
        "the certainty of the intervals": lambda one: one.confidence,
        "the students' seeds": lambda one: one.models.distilled.seeds,
    }
    apart = [name for name, pick in parts.items() if any(pick(run.summary) != pick(runs[0].summary) for run in runs)]
    differ = [f"these runs differ in {', '.join(apart)}: their scores are not comparable"] if apart else []
    return differ + [f"{run.name}: {line}" for run in runs for line in run.summary.warnings]


def render_comparison(comparison: Comparison) -> str:
    """Return the page as HTML text; everything that is not ours is escaped."""
    names = ", ".join(comparison.runs)
    template = files("recdistill.report").joinpath("compare.html").read_text(encoding="utf-8")
    body = Template(template).substitute(
        names=escape(names),
        notes="".join(f'<p class="note">Take care: {escape(note)}.</p>' for note in comparison.notes),
        etas=_html(comparison.runs, comparison.etas),
        withheld=why_note(comparison.withheld),
        scores=_html(comparison.runs, comparison.scores),
        keys=_html(comparison.runs, comparison.keys) if comparison.keys else "<p>None: the same experiment.</p>",
        facts=_html(comparison.runs, comparison.facts),
    )
    return framed(f"Comparison: {names[:100]}", body)


def _html(runs: Sequence[str], rows: Sequence[Row]) -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in runs)
    body = "".join(
        f"<tr><th>{escape(row.name)}{f'<small>{escape(row.of)}</small>' if row.of else ''}</th>"
        f"{''.join(f'<td>{escape(cell) or NONE}</td>' for cell in row.cells)}</tr>"
        for row in rows
    )
    return f'<div class="wide"><table><thead><tr><th></th>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def write_comparison(comparison: Comparison, path: Path) -> None:
    """Write the page to `path`, atomically; raises UserError when it cannot be written."""
    write_atomic(render_comparison(comparison), path)

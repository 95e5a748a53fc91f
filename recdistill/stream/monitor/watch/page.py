"""The live page as HTML from a State: first what matters; everything that is not ours is escaped."""

from __future__ import annotations

from html import escape
from importlib.resources import files
from string import Template

from recdistill.report.page import house_style
from recdistill.report.text import count, number, percent
from recdistill.stream.monitor.state import ModelState, ProcessState, State
from recdistill.stream.monitor.watch import parts
from recdistill.stream.monitor.watch.figures import mean_ne, students_of

__all__ = ["SCRIPT", "render"]

_FILES = files("recdistill.stream.monitor.watch")
SCRIPT = _FILES.joinpath("page.js").read_text(encoding="utf-8")  # the policy lets the browser run this text only
LEVELS = {
    "none": ("Not begun", "none"),
    "good": ("Healthy", "claim"),
    "look": ("Look at this", "unclear"),
    "bad": ("Trouble", "harm"),
    "ended": ("Finished", "claim"),
}


def render(state: State) -> str:
    """Return the whole page; its parts (`data-part`) are what the script swaps in from the next one."""
    word, kind = LEVELS[state.level]
    return Template(_FILES.joinpath("page.html").read_text(encoding="utf-8")).substitute(
        title=f"{word}: {escape(state.name)}",
        style=house_style(),
        level=f'<span class="badge {kind}">{word}</span>',
        when=_when(state),
        head=_head(state),
        cards=_cards(state),
        students="".join(parts.student(state, name) for name in students_of(state)),
        processes=parts.processes(state),
        versions=parts.versions(state),
        lost=parts.lost(state),
        happened=parts.happened(state),
        script=SCRIPT,
    )


def _when(state: State) -> str:
    reading = f" · reading the history, {count(state.unread)} commits to go" if state.unread else ""
    events = f" · events up to {parts.moment(state.watermark)} UTC" if state.watermark else ""
    return f"{escape(state.name)} · {parts.clock(state.wall)} UTC{events}{reading}"


def _head(state: State) -> str:
    lines = "".join(f"<li>{escape(line)}</li>" for line in state.why)
    return f"<h1>{_headline(state)}</h1>" + (f'<ul class="why">{lines}</ul>' if lines else "")


def _headline(state: State) -> str:
    stalled = [one.name for one in state.processes if one.status == "stalled"]
    if state.level == "none":
        return "The stream has not begun"
    if all(one.status == "ended" for one in state.processes):
        return "The source has ended, and every process is done"
    if stalled:
        return f"{escape(', '.join(stalled[:3]))}{' and others' * (len(stalled) > 3)} stalled"
    working = sum(one.status == "working" for one in state.processes)
    return f"{working} of {len(state.processes)} processes at work, {_behind(state.processes)}"


def _behind(processes: list[ProcessState]) -> str:
    most = max((one.lag_rows or 0 for one in processes), default=0)
    return f"at most {count(most)} rows behind" if most else "none behind"


def _cards(state: State) -> str:
    return "".join(
        (
            _lag_card(state),
            *(_gain_card(state, name) for name in students_of(state)),
            _bad_card(state),
            _lost_card(state),
        )
    )


def _card(head: str, big: str, text: str, kind: str = "") -> str:
    return f'<div class="card {kind}"><h3>{head}</h3><div class="big">{big}</div><p>{text}</p></div>'


def _lag_card(state: State) -> str:
    rows = [one for one in state.processes if one.lag_rows is not None]
    if not rows:
        return _card("Behind", "–", "no process follows the events yet")
    worst = max(rows, key=lambda one: one.lag_rows or 0)
    seconds = max((one.lag_seconds or 0.0 for one in rows), default=0.0)
    weights = max((one.label_to_weights or 0.0 for one in state.models), default=0.0)
    who = f"{escape(worst.name)} most; " if worst.lag_rows else ""
    text = f"{who}{parts.duration(seconds)} of event time; label to weights {parts.duration(weights)}"
    return _card(
        "Behind", f"{count(worst.lag_rows or 0)} <small>rows</small>", text, "harm" if worst.status == "stalled" else ""
    )


def _gain_card(state: State, student: str) -> str:
    raw, distilled = (mean_ne(state, student, role) for role in ("raw", "distilled"))
    head = f"{escape(student)}: distilled − raw"
    if raw is None or distilled is None:
        return _card(head, "–", "no normalized entropy yet: it needs labels of both kinds")
    better = distilled < raw
    rows = min(one.recent.rows for one in state.models if one.student == student)
    text = f"NE {number(distilled)} against {number(raw)} over the last {count(rows)} labelled rows; lower is better"
    return _card(head, number(distilled - raw, sign=True), text, "claim" if better else "unclear")


def _bad_card(state: State) -> str:
    if not state.bad:
        judged = any(one.kind == "gate" for one in state.processes)
        return _card("Quarantined", "0", "versions of a teacher" if judged else "no gate is at work: nothing is judged")
    last = max(state.bad, key=lambda one: one.time)
    text = f"last: {escape(last.model)} version {last.version}, {escape(last.reason[:120])}"
    return _card("Quarantined", count(len(state.bad)), text, "harm")


def _lost_card(state: State) -> str:
    dropped, dead = sum(state.dropped.values()), sum(state.dead.values())
    shares = [one.recent.coverage for one in state.models if _uses_teacher(one)]
    covered = f"; coverage {percent(min(c for c in shares if c is not None))}" if shares else ""
    return _card(
        "Dropped",
        count(dropped),
        f"rows, and {count(dead)} dead letters{covered}",
        "unclear" if dropped or dead else "",
    )


def _uses_teacher(model: ModelState) -> bool:
    return model.role == "distilled" and model.recent.coverage is not None

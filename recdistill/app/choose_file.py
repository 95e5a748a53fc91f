"""The experiment file of the student that `recdistill choose` recommends, and the commands that run and export it."""

from __future__ import annotations

import shlex
from pathlib import Path

import yaml

from recdistill.app.choose_study import Study, often
from recdistill.errors import printable
from recdistill.evaluate.choice import Choice

__all__ = ["CHOSEN", "STUDENT", "chosen_yaml", "commands"]

CHOSEN, STUDENT = "chosen.yaml", "light"  # the file, and the student's name in it


def chosen_yaml(study: Study, choice: Choice, rows: int, root: Path) -> tuple[str, list[str]]:
    """Return (the experiment file: the student alone, with the checkpoints that it was measured with; `commands`)."""
    measured, _ = study.experiment([one.name for one in choice.tried if one.rows == rows])
    experiment = often(measured, rows).model_copy(update={"name": choice.recommended})
    tree = experiment.model_dump(mode="json", exclude_unset=True)
    student = choice.recommended if STUDENT in experiment.teachers else STUDENT  # which is no teacher's name
    tree["students"] = {student: tree["students"][choice.recommended]}
    lines = ["Chosen by recdistill choose.", *(f"{reason}." for reason in choice.reasons)]
    typed = commands(study, choice, root, student)
    head = "".join(f"# {line}\n" for line in (*lines, *typed))
    return head + yaml.safe_dump(tree, sort_keys=False, allow_unicode=True), typed


def commands(study: Study, choice: Choice, root: Path, student: str = STUDENT) -> list[str]:
    """Return a line each to train the recommended student, and to write what serves it."""
    run = root / f"chosen-{choice.recommended}"  # for another budget may choose another
    whose = next(one for one in choice.tried if one.name == choice.recommended)
    data = [] if study.data is None else ["--data", study.data]
    smaller = [] if whose.cost.whole is None else ["--rows-as", "int8"]
    return [
        _line("to run it", "run", root / CHOSEN, *data, "--out", run),
        _line("then, to serve it", "export", run, student, "--to", root / "serving", *smaller),
    ]


def _line(what: str, *words: object) -> str:
    return printable(f"{what}: recdistill {shlex.join(map(str, words))}")

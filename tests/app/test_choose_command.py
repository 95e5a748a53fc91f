"""`recdistill choose` as it is typed: a small grid under both budgets, and what it prints is typed in turn."""

from __future__ import annotations

import json
import math
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from recdistill.app.choose import choose, parts_of, rows_of
from recdistill.app.choose_file import commands
from recdistill.app.choose_study import Study
from recdistill.app.run import ingest_stage, open_run
from recdistill.config.load import load_file
from recdistill.data.store.sample_store import SampleStore
from recdistill.errors import UserError
from recdistill.evaluate.choice import Budget, Choice, Cost, Tried
from tests.support.commands import typed
from tests.support.here import trains_here

TINY = """
name: tiny
data: {reader: simulator, options: {rows: 160, users: 60, items: 40, days: 0.2}}
teacher: {kind: pooled-mlp, width: 4, history: 5, batch: 40}
students: {light: {kind: pooled-mlp, width: 4, history: 5, batch: 40}}
evaluate: {seeds: [0], bootstrap: 20}
checkpoint_rows: 80
"""
GRID = "methods: {pruned: {width: 2, prune: {from: {width: 4}, importance: magnitude}}, plain: {width: 8}}"


class Typed(NamedTuple):
    """A folder with the experiment, the words of a study, its exit code, and what it printed."""

    root: Path
    words: tuple[object, ...]
    code: int
    printed: str

    def choice(self) -> Choice:
        """Return what it chose."""
        return Choice.model_validate(json.loads((self.root / "out" / "choice.json").read_text(encoding="utf-8")))


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Typed]:
    root = tmp_path_factory.mktemp("choose")
    (root / "tiny.yaml").write_text(TINY, encoding="utf-8")
    (root / "grid.yaml").write_text(GRID, encoding="utf-8")
    words = ("choose", root / "tiny.yaml", "--grid", root / "grid.yaml", "--out", root / "out")
    with trains_here():
        yield Typed(root, words, *typed(*words, "--latency-ms", 60_000, "--memory-mb", 10, "--candidates", 3))


def test_both_budgets_and_the_size_of_a_request_are_as_typed(study: Typed) -> None:
    assert study.code == 0, study.printed
    found = study.choice()
    assert (found.budget, found.candidates) == (Budget(latency_ms=60_000, memory_mib=10), 3)
    assert {one.name for one in found.tried} == {"pruned", "plain"} and "recommended: " in study.printed
    code, printed = typed(*study.words, "--latency-ms", 0.001, "--memory-mb", 10, "--candidates", 3)
    assert code == 2 and "the latency budget is below all of them; the nearest, p" in printed


def test_what_it_prints_runs_and_exports_the_recommended_student_as_it_was_measured(study: Typed) -> None:
    for line in [line for line in study.printed.splitlines() if ": recdistill " in line]:
        code, printed = typed(*shlex.split(line.partition(": recdistill ")[2]))
        assert code == 0, printed
        assert f"# {line}\n" in (study.root / "out" / "chosen.yaml").read_text(encoding="utf-8")
    found = study.choice()
    one = next(one for one in found.tried if one.name == found.recommended)
    run = study.root / "out" / f"chosen-{one.name}"
    scored = json.loads((run / "summary.json").read_text(encoding="utf-8"))["students"]["light"]
    assert load_file(study.root / "out" / "chosen.yaml").checkpoint_rows == 160 // 10  # of the pruned one, for both
    assert (scored["raw"][found.metric], scored["distilled"][found.metric]) == (one.raw, one.distilled)
    assert (study.root / "out" / "serving" / "current.json").exists()


@pytest.mark.parametrize("number", [math.inf, math.nan, 0.0])
@pytest.mark.parametrize(("key", "name"), [("latency_ms", "--latency-ms"), ("memory_mib", "--memory-mb")])
def test_a_budget_that_is_no_number_is_refused(tmp_path: Path, key: str, name: str, number: float) -> None:
    with pytest.raises(UserError, match=f"^{name} {number:g}: give a number above 0"):
        choose(tmp_path / "tiny.yaml", **{key: number})


def test_each_round_has_its_share_of_a_log_with_negatives(tmp_path: Path) -> None:
    rows = "".join(f"u{at % 7},i{at % 11},{1_700_000_000 + 60 * at},1\n" for at in range(400))
    (tmp_path / "log.csv").write_text(f"user,item,time,label\n{rows}", encoding="utf-8")
    keys = "reader: table, path: log.csv, columns: {user: user, item: item, time: time}"
    negatives = "negatives: {per_positive: 3, draw: uniform, positives: all}"
    text = f"name: t\ndata: {{{keys}, {negatives}}}\nstudents: {{light: {{kind: pooled-mlp}}}}"
    (tmp_path / "t.yaml").write_text(text, encoding="utf-8")
    study = Study(tmp_path / "t.yaml", None, Budget(), 5, tmp_path, [])
    rows, read = rows_of(study, study.experiment()[0], tmp_path / "log")
    parts = parts_of(rows, read)
    assert read == 400 and 1500 < rows <= 1600 and [limit for _, limit in parts] == [44, 133, None]
    for number, (part, limit) in enumerate(parts):
        experiment, _ = study.of_round(["din-16"], part, limit)
        with open_run(experiment, tmp_path, tmp_path / f"round-{number}", trains=False) as run:
            ingest_stage(run, experiment, tmp_path)
            assert abs(len(SampleStore(run.store)) - part) <= 20


@pytest.mark.long
def test_latency_is_measured_again_for_other_requests(study: Typed) -> None:
    code, printed = typed(*study.words, "--memory-mb", 10, "--candidates", 4)
    costs = json.loads((study.root / "out" / "round-1" / "costs.json").read_text(encoding="utf-8"))
    assert code == 0 and "training: nothing to do" in printed and costs["candidates"] == study.choice().candidates == 4


def test_nothing_is_trained_where_nothing_could_be_exported(study: Typed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    code, printed = typed(*study.words[:-1], study.root / "other")
    assert code == 2 and "export needs onnxscript; install it: pip install 'recdistill[export]'" in printed
    assert not (study.root / "other").exists()


@pytest.mark.parametrize("whole", [None, Cost(latency_ms=1, memory_mib=4)])
def test_the_commands_name_the_data_and_the_rows_that_are_served(whole: Cost | None, tmp_path: Path) -> None:
    cost = Cost(latency_ms=1, memory_mib=1, whole=whole)
    keys: dict[str, Any] = {"changes": {}, "rows": 9, "seeds": 1, "raw": None, "distilled": 0.6, "cost": cost}
    choice = Choice(
        name="x",
        metric="auc",
        budget=Budget(),
        candidates=1,
        teacher=None,
        tried=[Tried(name="a", **keys)],
        recommended="a",
        reasons=[],
    )
    study = Study(tmp_path / "x.yaml", None, Budget(), 1, tmp_path / "my log", [])
    run, export = commands(study, choice, tmp_path / "out")
    file, log, to, serving = (tmp_path / name for name in ("out/chosen.yaml", "my log", "out/chosen-a", "out/serving"))
    assert run == f"to run it: recdistill run {file} --data '{log}' --out {to}"
    smaller = " --rows-as int8" if whole else ""
    assert export == f"then, to serve it: recdistill export {to} light --to {serving}{smaller}"

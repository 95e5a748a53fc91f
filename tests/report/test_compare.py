"""recdistill compare: what stands side by side, what it refuses, and a page that names cannot break."""

from __future__ import annotations

import json
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from recdistill.cli import app as cli
from recdistill.errors import UserError
from recdistill.evaluate.summary import Summary, write_summary
from recdistill.report.compare import compared, finished, render_comparison
from tests.support.summaries import sample_summary, withheld_summary

HOSTILE = "<script>alert('x')</script>\"&$name"


def run(root: Path, summary: Summary, **keys: object) -> Path:
    """Return a folder with what `compare` reads of a finished run."""
    root.mkdir(parents=True)
    write_summary(summary, root / "summary.json")
    tree = {"name": summary.name, "teacher": {"width": 32}, "evaluate": {"seeds": [0, 1]}, **keys}
    (root / "run.json").write_text(json.dumps({"experiment": tree, "data": ""}))
    return root


def called(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    """Return (exit code, standard output, standard error) of the command line."""
    monkeypatch.setattr(sys, "argv", ["recdistill", "compare", *map(str, words)])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    shown = capsys.readouterr()
    return int(caught.value.code or 0), shown.out, shown.err


@pytest.fixture
def two(tmp_path: Path) -> list[Path]:
    """Return two runs that differ in a key and in their students."""
    summary = sample_summary()
    first = run(tmp_path / "a", summary)
    less = summary.model_copy(update={"students": {"din-16": summary.students["din-16"]}})
    return [first, run(tmp_path / "b", less, teacher={"width": 64})]


def test_scores_etas_and_keys_stand_side_by_side(two: list[Path]) -> None:
    found = compared([finished(folder) for folder in two])
    assert found.runs == [str(folder) for folder in two] and not found.notes
    assert [(row.name, row.cells) for row in found.keys] == [("teacher.width", ["32", "64"])]
    scores = {(row.of, row.name): row.cells for row in found.scores}
    assert scores["teacher", "GAUC"] == ["0.7820 ± 0.0014"] * 2
    assert scores["din-8 distilled", "GAUC"] == ["0.7525 ± 0.0014", ""], "the second run has no such student"
    etas = {(row.of, row.name): row.cells for row in found.etas}
    assert etas["din-16", "eta, GAUC"] == ["+0.620 (+0.510 to +0.700)"] * 2
    assert etas["din-16", "eta, NE"] == ["withheld"] * 2 and etas["din-8", "eta, AUC"][1] == ""
    assert len(found.withheld) == 3 and found.withheld[0].startswith(f"{two[0]}, din-16, NE: the teacher's gain")


def test_runs_that_were_not_scored_alike_say_so(tmp_path: Path) -> None:
    one, other = run(tmp_path / "a", sample_summary()), run(tmp_path / "b", withheld_summary())
    (note,) = compared([finished(one), finished(other)]).notes
    assert note.startswith("these runs differ in the scored impressions, the students' seeds")


def test_it_prints_and_writes_a_page(
    two: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = called(monkeypatch, capsys, *two, "--out", tmp_path / "page" / "compare.html")
    assert (code, err) == (0, "") and out.endswith(f"comparison: {tmp_path}/page/compare.html\n")
    lines = [" ".join(line.split()) for line in out.splitlines()]
    assert "din-8 distilled GAUC 0.7525 ± 0.0014 -" in lines and "teacher.width 32 64" in lines
    assert "+0.620 (+0.510 to +0.700)" in (tmp_path / "page" / "compare.html").read_text()


def test_many_runs_are_printed_whole_into_a_pipe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = [run(tmp_path / f"a-rather-long-name-of-a-run-{at}", sample_summary()) for at in range(30)]
    code, out, _ = called(monkeypatch, capsys, *runs)
    assert code == 0 and all(str(folder) in out for folder in runs)
    (line,) = [line for line in out.splitlines() if line.startswith(" din-16 eta, GAUC")]
    assert line.count("+0.620 (+0.510 to +0.700)") == 30


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda folder: (folder / "run.json").unlink(), "b: holds no run; name folders that recdistill run has made"),
        (lambda folder: (folder / "summary.json").unlink(), "b: not scored yet; run: recdistill evaluate"),
        (lambda folder: (folder / "summary.json").write_text("{"), "summary.json: not JSON"),
        (lambda folder: (folder / "summary.json").write_text('{"schema_version": 1}'), "schema_version is 1"),
        (lambda folder: (folder / "run.json").write_text("[]"), "run.json: damaged"),
        (lambda folder: (folder / "run.json").write_bytes(b"\xff\x00"), "run.json: damaged"),
    ],
)
def test_a_folder_that_is_no_finished_run_is_refused(
    spoil,
    message: str,
    two: list[Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    spoil(two[1])
    code, out, err = called(monkeypatch, capsys, *two, "--out", tmp_path / "page.html")
    assert code == 2 and not out and message in err and err.count("\n") == 1
    assert not (tmp_path / "page.html").exists()


def test_one_run_is_not_enough(two: list[Path]) -> None:
    with pytest.raises(UserError, match="name two runs or more"):
        compared([finished(two[0])])


class Tags(HTMLParser):
    """Collects a page's tags and its text."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.text = ""

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.tags.add(tag)

    def handle_data(self, data: str) -> None:
        self.text += data


def test_hostile_names_are_text_on_the_page_and_in_the_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    summary = sample_summary().model_copy(
        update={"students": {f"[bold]{HOSTILE}": sample_summary().students["din-16"]}}
    )
    root = tmp_path / HOSTILE.replace("/", "")
    folders = [run(root, summary), run(tmp_path / "b", summary, **{f"[red]{HOSTILE}": HOSTILE})]
    page = render_comparison(compared([finished(folder) for folder in folders]))
    seen = Tags()
    seen.feed(page)
    assert "script" not in seen.tags and HOSTILE in seen.text and "default-src 'none'" in page
    code, out, _ = called(monkeypatch, capsys, *folders)
    assert code == 0 and f"[bold]{HOSTILE}" in out and f"[red]{HOSTILE}" in out

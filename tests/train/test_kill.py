"""A run killed anywhere and started again ends as if nothing had happened: the same weights and rows, bit for bit.

A killed process leaves its files as they were at that moment. So one run here is copied before each thing it does to a
file, and every different copy is resumed; and the real command is killed with SIGKILL, alone and with its children.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import sys
from pathlib import Path

import pytest

from benchmarks.kills import EXPERIMENT, Differences, differences, ended, kill, result_of, start
from recdistill.config.load import load_text
from recdistill.errors import UserError
from recdistill.locks import locked
from recdistill.runs.folder import RunFolder
from tests.support.runs import finish, ingested, tiny

ALIKE = re.compile(r"(?<=store.part/)\w+(?=.npy)|[0-9]{20}|(?<=0)[0-9](?=.part/)")  # of these, one point stands for all
MODELS = ("teacher", "light.distilled.s0")


class Snapshots:
    """Copies of `root` before every file operation below it, while `on`; one per kind of operation and file."""

    def __init__(self, root: Path, into: Path) -> None:
        self.root, self.into, self.on = root, into, False
        self.taken: dict[str, Path] = {}
        self.seen: set[str] = set()
        sys.addaudithook(self._hook)  # there is no way to take a hook off again, only to turn it off

    def _hook(self, event: str, arguments: tuple[object, ...]) -> None:
        if not self.on or event not in ("open", "os.rename", "os.remove", "os.rmdir", "os.mkdir"):
            return
        path = str(arguments[0])
        if path.startswith(str(self.root)):
            self.on = False
            self._take(f"{event} {ALIKE.sub('*', path.removeprefix(str(self.root)))}")
            self.on = True

    def _take(self, point: str) -> None:
        if point in self.taken or not self.root.exists():
            return
        state = hashlib.sha256()
        for file in sorted(self.root.rglob("*")):
            state.update(str(file).encode() + (file.read_bytes() if file.is_file() else b""))
        if state.hexdigest() not in self.seen:
            self.seen.add(state.hexdigest())
            self.taken[point] = self.into / str(len(self.taken))
            shutil.copytree(self.root, self.taken[point])


@pytest.mark.long
def test_killed_before_any_file_operation(tmp_path: Path) -> None:
    experiment = tiny("data.options.rows=160", "checkpoint_rows=80", "teacher.batch=40", "students.light.batch=40")
    snapshots = Snapshots(tmp_path / "run", tmp_path / "killed")
    snapshots.on = True
    finish(tmp_path / "run", experiment, *MODELS)
    snapshots.on = False
    want = result_of(tmp_path / "run")
    points = " ".join(snapshots.taken)
    for moment in (
        "run.json.part",
        "os.rename /tables.part",
        "os.rename /store.part",
        "signals.json",
        "model.safetensors",
        "state.json",
        "os.mkdir /models/teacher/00000001.part",
        "open /models/teacher/00000001.part",
    ):
        assert moment in points
    for point, folder in snapshots.taken.items():
        finish(folder, experiment, *MODELS)
        assert differences(want, result_of(folder)) == Differences(), point


@pytest.mark.long
def test_killed_for_real(tmp_path: Path) -> None:
    """SIGKILL to the main process alone while the teacher trains, then to the group while the student does."""
    config, folder = tmp_path / "run.yaml", tmp_path / "run"
    config.write_text(EXPERIMENT, encoding="utf-8")
    finish(tmp_path / "whole", load_text(EXPERIMENT), "teacher", "light.raw.s0", "light.distilled.s0")
    for model, group in (("teacher", False), ("light.distilled.s0", True)):
        process = start(config, folder)
        while not (folder / "models" / model / "00000001").exists():
            assert not ended(process, 0.01), "it was to be killed before it ended"
        kill(process, group)
        process.communicate(timeout=600)  # the end of its output: every process that held it is gone, orphans too
    assert ended(start(config, folder), 1200)
    assert differences(result_of(tmp_path / "whole"), result_of(folder)) == Differences()
    assert (folder / "report.html").exists()


def test_a_second_process_on_a_run_is_refused(tmp_path: Path) -> None:
    experiment = tiny()
    folder = ingested(tmp_path / "runs" / "tiny", experiment)
    with folder.held():
        for _ in range(2):
            with pytest.raises(UserError, match="another process is at work on this run"):
                ingested(folder.root, experiment)
    with folder.held(), locked(folder.root / "other", "not refused"):
        pass
    assert ingested(folder.root, experiment).tables.exists()


def test_what_was_made_goes_again_when_nothing_was_ingested(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    for root in (tmp_path / "runs" / "deep" / "x", tmp_path / "there" / "x"):
        with pytest.raises(UserError, match="rows must be"):
            ingested(root, tiny("data.options.rows=0"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["there"] and not any((tmp_path / "there").iterdir())


def test_a_folder_of_other_files_or_of_another_run_is_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").touch()
    with pytest.raises(UserError, match="holds files that are no run"):
        ingested(tmp_path, tiny())
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
    folder = ingested(tmp_path / "run", tiny())
    before = (folder.root / "run.json").read_bytes()
    with pytest.raises(UserError, match="holds another run \\(teacher.width: 4 there, 8 now\\)"):
        ingested(folder.root, tiny("teacher.width=8"))
    assert (folder.root / "run.json").read_bytes() == before and folder.tables.exists()
    assert ingested(folder.root, tiny("evaluate.seeds=[0, 1]", "processes=1")).experiment().evaluate.seeds == [0, 1]
    assert (
        ingested(folder.root, tiny("teacher.device=cpu")).experiment().teacher.device == "cpu"
    )  # a run may go on elsewhere


def test_a_damaged_run_file_is_told(tmp_path: Path) -> None:
    folder = ingested(tmp_path / "run", tiny())
    for text, says in (
        ("{", "damaged"),
        ("{}", "not of this version"),
        ('{"experiment": {"name": "x"}}', "not of this version"),
    ):
        (folder.root / "run.json").write_text(text, encoding="utf-8")
        with pytest.raises(UserError, match=says):
            RunFolder(folder.root).experiment()

"""Writes that fail: `python benchmarks/reliability/faults.py [STEP]`. Budget: no corrupt table, no unclear error.

Each of ingest, a commit of predictions, a checkpoint, verdicts and compaction is done in a process in which the N-th
change to a file fails, for N = 0, 1, 2 ... until none does (STEP apart, 1): no space left and read-only (from then on),
an I/O error (once), a refused name (from then on), a write that takes half of its bytes (once). A preloaded library
(_faults.c, built with cc) stands between the process and the system, so whatever library writes is met. Afterwards
another process reads everything, and does the same again without faults: what is there must be what was there before or
what comes after it, and then what comes after.
"""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import subprocess
import sys
import tempfile
import zlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import torch
from rich.console import Console
from rich.table import Table

from recdistill.app.run import open_run
from recdistill.app.stream import batch_stage, run_role
from recdistill.checkpoint.store import Checkpoint, Checkpoints
from recdistill.cli.app import guarded
from recdistill.config.load import load_text
from recdistill.errors import RecdistillError
from recdistill.runs.folder import RunFolder
from recdistill.tables.delta.log import DeltaLog
from recdistill.tables.predictions import PredictionLog
from recdistill.tables.verdicts import VerdictLog

__all__ = ["JOBS", "main", "trial"]

WRITE, OPEN, NAME, SYNC = 1, 2, 4, 8
FAULTS = {  # errno (-1: a write of half its bytes), what it meets, whether it stays
    "no space left": (errno.ENOSPC, WRITE | OPEN | NAME | SYNC, True),
    "I/O error": (errno.EIO, WRITE | OPEN | NAME | SYNC, False),
    "permission denied": (errno.EACCES, OPEN | NAME, True),
    "read-only": (errno.EROFS, OPEN | NAME, True),
    "short write": (-1, WRITE, False),
}
CONFIG = """
name: faults
data: {reader: simulator, options: {rows: 300, users: 20, items: 20, days: 1.0}}
teacher: {kind: pooled-mlp, width: 4, history: 5, batch: 50}
evaluate: {seeds: [0]}
stream: {batch_rows: 0, commit_rows: 100, source: {kind: table, message_rows: 50}}
"""
FIRST = 1_704_067_200_000_000  # us


def _predictions(first: int) -> pl.DataFrame:
    ids = np.arange(first, first + 200)
    times = pl.Series(FIRST + ids % 200 * 1_000_000).cast(pl.Datetime("us", "UTC"))
    return pl.DataFrame(
        {
            "sample_id": ids,
            "time": times,
            "logit_click": ids.astype(np.float32),
            "logit_finish": -ids.astype(np.float32),
        }
    )


def _record(root: Path, sequence: int) -> None:
    log = PredictionLog.open(root / "predictions")
    log.append(
        _predictions(1000 * sequence),
        model="m",
        version=sequence,
        kind="imported",
        writer="m",
        sequence=sequence,
        new_samples=True,
    )


def _ingest(root: Path) -> None:
    folder = RunFolder(root)
    run_role(folder, folder.experiment(), None, "ingest")


def _publish_checkpoint(root: Path) -> None:
    weights = torch.arange(50_000, dtype=torch.float32)
    Checkpoints(root / "models" / "m").publish(2, Checkpoint({"w": weights, "v": weights[:7].clone()}, {"rows": 2}))


def _verdicts(root: Path) -> None:
    rows = pl.concat([VerdictLog.row("teacher", version, "approved", rows=version) for version in range(20)])
    VerdictLog.open(root / "verdicts").append(rows, writer="gate", sequence=5)


JOBS: dict[str, Callable[[Path], None]] = {
    "ingest": _ingest,
    "predictions": lambda root: _record(root, 9),
    "checkpoint": _publish_checkpoint,
    "verdicts": _verdicts,
    "compaction": lambda root: DeltaLog(root / "predictions").compact(),
}


def _prepare(root: Path) -> None:
    """Make the run that every trial starts from: its source published, predictions and a checkpoint there."""
    experiment = load_text(CONFIG)
    with open_run(experiment, None, root) as folder:
        batch_stage(folder, experiment, None)
    run_role(folder, experiment, None, "publish")
    for sequence in range(6):
        _record(root, sequence)
    Checkpoints(root / "models" / "m").publish(1, Checkpoint({"w": torch.zeros(9)}, {"rows": 1}))


def _short(ids: pl.Series) -> str:
    """Return ids as first..last where none is missing."""
    if len(ids) and ids.to_list() == list(range(int(ids[0]), int(ids[0]) + len(ids))):
        return f"[{ids[0]}..{ids[-1]}]"
    return f"[{len(ids)}:{zlib.crc32(str(ids.to_list()).encode()):08x}]"


def _contents(root: Path) -> str:
    """Return what a reader finds, as text to compare: rows of every table, whole and commit by commit, and
    the newest checkpoint.
    """
    lines = []
    for path in (root / "tables" / "events", root / "predictions", root / "verdicts"):
        log = DeltaLog(path)
        none = pl.DataFrame(schema=log.types)
        whole, parts = pl.concat([none, *log.batches()]), [none, *(log.read(commit) for commit in log.commits(-1))]
        ids = "version" if path.name == "verdicts" else "sample_id"
        added = pl.concat(parts)[ids].sort()
        lines.append(f"{path.name} {_short(whole[ids].sort())} {added.equals(whole[ids].sort())}")
    latest = Checkpoints(root / "models" / "m").latest()
    lines.append(
        f"checkpoint {latest[0] if latest else None} {float(latest[1].tensors['w'].sum()) if latest else None}"
    )
    return "\n".join(lines)


def forked(work: Callable[[], None], output: Path) -> int:
    """Do `work` in a child; what it prints goes to `output`; return its exit code."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    handle = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(handle, 1)
    os.dup2(handle, 2)
    code = 70
    try:
        sys.argv = ["recdistill"]
        guarded(lambda: work())
    except SystemExit as end:
        code = int(end.code or 0)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


@dataclass(frozen=True)
class Outcome:
    """fired: whether a fault met the process. corrupt, unclear: what was wrong, '' when nothing was."""

    fired: bool
    corrupt: str = ""
    unclear: str = ""


def _look(root: Path, place: Path) -> str:
    """Return what a process of its own finds, or how it failed."""
    found, output = place / "found", place / "output"
    code = forked(lambda: [found.write_text(_contents(root), encoding="utf-8"), None][1], output)
    return found.read_text(encoding="utf-8") if code == 0 else f"exit code {code}: {output.read_text(errors='replace')}"


def trial(place: Path, job: str, fault: str, index: int, before: str, after: str) -> Outcome:
    """Do one job with one fault, look, do it again; see the module."""
    root, output, library = place / "run", place / "output", ctypes.CDLL(str(place / "faults.so"))
    shutil.rmtree(root, ignore_errors=True)
    shutil.copytree(place / "first", root)
    number, kinds, stays = FAULTS[fault]

    def work() -> None:
        library.fault_arm(str(root).encode(), number, kinds, index, int(stays))
        try:
            JOBS[job](root)
        finally:
            fired = library.fault_fired()
            library.fault_arm(b"", 0, 0, 0, 0)
            (place / "fired").write_text(str(fired), encoding="utf-8")

    code = forked(work, output)
    fired = (place / "fired").read_text(encoding="utf-8") == "1"
    text = [
        line
        for line in output.read_text(errors="replace").splitlines()
        if line.startswith("recdistill: ") or "Traceback" in line
    ]
    unclear = (
        "" if code == 0 or _clear(code, text, fault) else f"exit code {code}: {output.read_text(errors='replace')}"
    )
    middle = _look(root, place)
    whole = [before] if job == "compaction" else [before, after]
    if job == "ingest":  # several commits: any number of them
        corrupt = "" if _prefix(middle, after) else middle
    else:
        corrupt = "" if middle in whole else middle
    if not corrupt:
        again = forked(lambda: JOBS[job](root), output)
        end = _look(root, place)
        corrupt = (
            ""
            if again == 0 and end == after
            else f"again: exit code {again} {output.read_text(errors='replace')} {end}"
        )
    return Outcome(fired, corrupt, unclear)


def _clear(code: int, lines: list[str], fault: str) -> bool:
    """Return whether the one line gives the cause, and the exit code who can mend it."""
    wanted = (1, 2) if fault in ("I/O error", "short write") else (2,)
    return code in wanted and len(lines) == 1 and "unexpected" not in lines[0] and "Traceback" not in lines[0]


def _prefix(found: str, after: str) -> bool:
    """Return whether the events found are the first of those to come, everything else being equal."""
    got, want = found.splitlines(), after.splitlines()
    if len(got) != len(want) or got[1:] != want[1:] or not got[0].endswith("True"):
        return False
    first, last = want[0].split()[1].strip("[]").split("..")
    mine = got[0].split()[1].strip("[]")
    return mine.startswith("0:") or (mine.partition("..")[0] == first and int(mine.partition("..")[2]) <= int(last))


def sweep(place: Path, step: int) -> tuple[dict[tuple[str, str], Counter[str]], list[str]]:
    """Do every job with every fault at every index, `step` apart; return (counts, what was wrong)."""
    counted: dict[tuple[str, str], Counter[str]] = {}
    wrong: list[str] = []
    before = _look(place / "first", place)
    for job in JOBS:
        shutil.copytree(place / "first", place / "run")
        forked(lambda job=job: JOBS[job](place / "run"), place / "output")  # type: ignore[misc]
        after = _look(place / "run", place)
        shutil.rmtree(place / "run")
        for fault in FAULTS:
            index, counts = 0, Counter[str]()
            while (outcome := trial(place, job, fault, index, before, after)).fired:
                counts.update(trials=1, corrupt=int(bool(outcome.corrupt)), unclear=int(bool(outcome.unclear)))
                wrong += [f"{job}, {fault} at {index}: {text}" for text in (outcome.corrupt, outcome.unclear) if text]
                index += step
            shutil.rmtree(place / "run")
            counted[job, fault] = counts
    return counted, wrong


def main() -> int:
    """Sweep; the exit code is 0 when nothing was corrupt or unclear."""
    step = int(sys.argv[1]) if len(sys.argv) > 1 else 1
    here = Path(__file__).parent
    if "FAULTS_PLACE" not in os.environ:
        with tempfile.TemporaryDirectory() as folder:
            library = Path(folder).resolve() / "faults.so"
            subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", library, here / "_faults.c", "-ldl"], check=True)
            prepare = [
                sys.executable,
                "-c",
                f"import sys; sys.path.insert(0, {str(here)!r}); from pathlib import Path; import faults;"
                f"faults._prepare(Path({str(library.parent / 'first')!r}))",
            ]
            subprocess.run(prepare, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            environment = os.environ | {"FAULTS_PLACE": str(library.parent), "LD_PRELOAD": str(library)}
            return subprocess.run([sys.executable, __file__, str(step)], env=environment, check=False).returncode
    counted, wrong = sweep(Path(os.environ["FAULTS_PLACE"]), step)
    return _report(counted, wrong)


def _report(counted: dict[tuple[str, str], Counter[str]], wrong: list[str]) -> int:
    table = Table("job", "fault", "writes that failed", "corrupt", "unclear", title="a write fails")
    for (job, fault), counts in counted.items():
        table.add_row(job, fault, *(str(counts[name]) for name in ("trials", "corrupt", "unclear")))
    Console(width=120).print(table)
    for line in wrong[:20]:
        print(line[:600])
    trials = sum(counts["trials"] for counts in counted.values())
    print(f"{trials} failed writes; budget corrupt 0, unclear 0: {'MISSED' if wrong or not trials else 'met'}")
    return 1 if wrong or not trials else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except RecdistillError as error:
        sys.exit(str(error))

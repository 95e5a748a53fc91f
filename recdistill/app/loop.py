"""The whole loop on simulated users: serve -> events -> teacher -> student -> serve, and a page of what it brings.

    recdistill stream --role batch      teacher and student learn the log's first rows
    recdistill export                   version 1; the frozen student stays with it
    recdistill histories, serve --log   a server with the users' histories, whose log is the stream's source
    recdistill stream                   teacher and student learn what was served, once its outcome is known
    recdistill export                   again with each new checkpoint; the server takes it over

Every part is a program of its own; this one plays the users, who click on what the server ranks.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import pyarrow as pa
from deltalake import CommitProperties, DeltaTable, write_deltalake

from recdistill.app.loop_processes import Program, command, started
from recdistill.app.loop_rounds import Rounds, Server
from recdistill.app.progress import console, print_line
from recdistill.config.experiment import Experiment
from recdistill.data.readers.options import read_options
from recdistill.data.readers.simulated_users import SimulatedUsers
from recdistill.data.readers.simulator import LIST, Simulator, SimulatorConfig
from recdistill.errors import UserError
from recdistill.evaluate.closed_loop import LoopPoint, LoopSummary
from recdistill.report.loop import write_loop
from recdistill.runs.folder import RunFolder
from recdistill.runs.jobs import jobs_of
from recdistill.serve.histories_file import HistoriesFile
from recdistill.serve.scorer import Scorer
from recdistill.stream.sources.table import END
from recdistill.stream.workers.build import stream_checkpoints

__all__ = ["run_loop"]

CANDIDATES, ROUND = 20, 50  # of a visit; visits of a round
LEAD = 3  # checkpoints' worth of samples that may be served before a version that has predicted them is there
PAUSE, LONGEST = 0.2, 120.0  # seconds between two looks at a version that lags, and how long one round waits for it


def run_loop(config: Path, experiment: Experiment, set_: Sequence[str], root: Path) -> LoopSummary:
    """Run the loop in `root`, and write loop.json and loop.html there.

    Raises UserError for an experiment that is no simulated stream without a replay, for a folder where a loop has run,
    and where one of the programs ends.
    """
    _check(experiment, root)
    loop = _Loop(config, experiment, set_, root)
    loop.prepare()
    summary = loop.run()
    write_loop(summary, root)
    print_line(f"loop: {len(summary.swaps)} versions were taken over -> {root / 'loop.html'}")
    return summary


def _check(experiment: Experiment, root: Path) -> None:
    stream = experiment.stream
    for key, wrong, wanted in (
        ("data.reader", experiment.data.reader != "simulator", "simulator: others' users cannot be asked"),
        ("stream.replay", stream.replay, "false: the server fills the source"),
        ("stream.source.kind", stream.source.kind != "table" or bool(stream.source.path), "table, without a path"),
        ("labels.window_s", experiment.labels.window_s is None, "a number of seconds: who did not click says nothing"),
        ("stream.batch_rows", not stream.batch_rows, "the rows of the first version"),
    ):
        if wrong:
            raise UserError(f"{key}: a loop needs {wanted}")
    if (root / "source").exists():
        raise UserError(f"{root}: a loop has run there; choose another --out or delete it")


class _Loop:
    def __init__(self, config: Path, experiment: Experiment, set_: Sequence[str], root: Path) -> None:
        self.root, self.experiment = root, experiment
        self.words = [str(config), "--out", str(root), *(word for one in set_ for word in ("--set", one))]
        self.folder, self.logs = RunFolder(root), root / "logs"
        _, students = jobs_of(experiment)
        self.student = next(job.name for job in students if job.uses_teacher)
        self.exported = 0  # rows of the checkpoint
        self.export: tuple[int, Program] | None = None

    def prepare(self) -> None:
        """Train the first version, and export it twice."""
        command(["stream", *self.words, "--role", "batch"])
        command(self._exporting())
        shutil.copytree(self.root / "artefact", self.root / "frozen")
        command(["histories", str(self.root), "--once"])

    def _exporting(self) -> list[str]:
        return ["export", str(self.root), self.student, "--to", str(self.root / "artefact")]

    def run(self) -> LoopSummary:
        """Start the programs, play until the log's last row, and let the stream end."""
        simulator = Simulator(read_options(self.experiment.data, SimulatorConfig))
        users = SimulatedUsers(simulator, self.experiment.stream.batch_rows, CANDIDATES)
        source, artefact = str(self.root / "source"), str(self.root / "artefact")
        words = ["--port", "0", "--log", source, "--shown", str(LIST), "--histories", str(self.root)]
        with ExitStack() as programs:

            def start(log: str, *words: str) -> Program:
                return programs.enter_context(started(words, self.logs / f"loop-{log}.txt"))

            serve = start("serve", "serve", artefact, *words)
            rounds = Rounds(users, Server(serve.address()), Scorer.open(self.root / "frozen"), HistoriesFile(self.root))
            stream = start("stream", "stream", *self.words)
            points = self._play(rounds, [serve, stream, start("histories", "histories", str(self.root))], programs)
            serve.stop()  # which writes what waits in its log
            _end(self.root / "source")
            with console.status("the stream learns what is left"):
                stream.process.wait()
            stream.check(ended=True)
        return LoopSummary(self.experiment.name, self.student, CANDIDATES, LIST, points, self._predicted())

    def _play(self, rounds: Rounds, programs: Sequence[Program], context: ExitStack) -> list[LoopPoint]:
        """Play all rounds; a new checkpoint is exported, and a version that lags is waited for."""
        points, users = list[LoopPoint](), rounds.users
        for first in range(users.first, users.end, ROUND):
            points.append(rounds.play(first, ROUND))
            if len(points) % 20 == 0:
                print_line(_line(points[-20:]))
            self._follow(rounds.done * LIST, programs, context)
        rounds.finish()
        return points

    def _follow(self, served: int, programs: Sequence[Program], context: ExitStack) -> None:
        """Export the newest checkpoint where there is a new one; wait for a version that lags, LONGEST at most, so that
        how often one is taken over does not depend on the machine's speed.
        """
        until, lead = time.monotonic() + LONGEST, LEAD * self.experiment.stream.checkpoint_rows
        while True:
            for program in programs:
                program.check()
            self._export_newest(context)
            if served - self.exported <= lead or time.monotonic() >= until:
                return
            time.sleep(PAUSE)

    def _predicted(self) -> int:
        """Return how many rows the student had predicted as of its newest checkpoint of the stream."""
        return max(stream_checkpoints(self.folder, self.student).blocks(), default=0)

    def _export_newest(self, context: ExitStack) -> None:
        if self.export is not None:
            rows, program = self.export
            if program.process.poll() is None:
                return
            program.check(ended=True)
            self.exported, self.export = rows, None
        if (newest := self._predicted()) > self.exported:
            self.export = newest, context.enter_context(started(self._exporting(), self.logs / "loop-export.txt"))


def _line(points: Sequence[LoopPoint]) -> str:
    """Return one line about some rounds."""
    shares = ", ".join(f"{whose} {_mean([one.share(whose) for one in points]):.0%}" for whose in ("student", "frozen"))
    last = points[-1]
    return f"loop: {last.requests:,} requests, version {last.versions[-1]}; of the best order's gain: {shares}"


def _mean(values: Sequence[float | None]) -> float:
    known = [value for value in values if value is not None]
    return sum(known) / max(len(known), 1)


def _end(source: Path) -> None:
    """Say in the source's tables that nothing follows."""
    for kind in ("outcomes", "events"):
        table = DeltaTable(str(source / kind))
        empty = pa.schema(table.schema().to_arrow()).empty_table()
        about = CommitProperties(custom_metadata={END: "1"})
        write_deltalake(table, empty, mode="append", commit_properties=about)

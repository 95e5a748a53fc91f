"""The whole loop on simulated users: serve -> events -> teacher -> student -> serve, and a page of what it brings.

    recdistill stream --role batch      teacher and student learn the log's first rows
    recdistill export                   version 1; the frozen student stays with it
    recdistill histories, serve --log   a server with the users' histories, whose log is the stream's source
    recdistill stream                   teacher and student learn what was served, once its outcome is known
    recdistill export                   again with each new checkpoint; the server takes it over

Every part is a program of its own; this one plays the users, who click on what the server ranks. It waits for the
others (see `loop_pace`), so that what is found is a function of the experiment and not of the machine's speed.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pyarrow as pa
from deltalake import CommitProperties, DeltaTable, write_deltalake

from recdistill.app.loop_pace import arrived, wait
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
from recdistill.serve.pointer import read_pointer
from recdistill.serve.scorer import Scorer
from recdistill.stream.sources.table import END
from recdistill.stream.workers.build import stream_checkpoints
from recdistill.tables.events import EventLog, OutcomeLog

__all__ = ["run_loop"]

CANDIDATES, ROUND = 20, 100  # of a visit; visits of a round
PRINTED = 10  # rounds of one line


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
    _check_pace(experiment, read_options(experiment.data, SimulatorConfig))
    if (root / "source").exists():
        raise UserError(f"{root}: a loop has run there; choose another --out or delete it")


def _check_pace(experiment: Experiment, world: SimulatorConfig) -> None:
    """Refuse what would make outcomes come too late, or the users and the student wait for each other."""
    window, row_s = experiment.labels.window_s or 0.0, world.days * 86_400 / world.rows
    if window <= (round_s := ROUND * LIST * row_s):
        raise UserError(
            f"labels.window_s: a loop needs more than {round_s:,.0f}, the seconds of a round of {ROUND} requests, "
            f"after which it sends their outcomes; got {window:,.0f}"
        )
    if experiment.stream.health.rows > window / row_s:
        raise UserError(
            f"stream.health.rows: a loop needs at most {window / row_s:,.0f}, the rows of labels.window_s: the student "
            "waits for the teacher's rows to be checked, and the users for the student"
        )


class _Loop:
    def __init__(self, config: Path, experiment: Experiment, set_: Sequence[str], root: Path) -> None:
        self.root, self.experiment = root, experiment
        self.words = [str(config), "--out", str(root), *(word for one in set_ for word in ("--set", one))]
        self.folder, self.logs = RunFolder(root), root / "logs"
        _, students = jobs_of(experiment)
        self.student = next(job.name for job in students if job.uses_teacher)

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
            points = self._play(rounds, [serve, stream, start("histories", "histories", str(self.root))])
            serve.stop()  # which writes what waits in its log
            _end(self.root / "source")
            with console.status("the stream learns what is left"):
                stream.process.wait()
            stream.check(ended=True)
        return LoopSummary(self.experiment.name, self.student, CANDIDATES, LIST, points, self._predicted())

    def _play(self, rounds: Rounds, programs: Sequence[Program]) -> list[LoopPoint]:
        """Play all rounds, each once all before it has arrived; take over a version per checkpoint."""
        points, users, taken = list[LoopPoint](), rounds.users, 0
        logs = {name: of(self.folder.tables / name) for name, of in (("events", EventLog), ("outcomes", OutcomeLog))}
        for first in range(users.first, users.end, ROUND):
            rounds.send(first)
            served = rounds.done * LIST
            rows = {"events": self.experiment.stream.batch_rows + served, "outcomes": rounds.sent}
            wait(partial(arrived, logs, rows, rounds.kept), "what was served is in the tables and histories", programs)
            if (due := served // self.experiment.stream.checkpoint_rows) > taken:
                self._take_over(due * self.experiment.stream.checkpoint_rows, rounds.server, programs)
                taken = due
            points.append(rounds.play(first, ROUND))
            if len(points) % PRINTED == 0:
                print_line(_line(points[-PRINTED:]))
        rounds.finish()
        return points

    def _take_over(self, rows: int, server: Server, programs: Sequence[Program]) -> None:
        """Export the checkpoint that has predicted so many rows, once it is there, and wait until it is served."""
        wait(lambda: self._predicted() >= rows, f"{self.student} has a checkpoint of {rows:,} rows", programs)
        with started(self._exporting(), self.logs / "loop-export.txt") as export:
            export.process.wait()
            export.check(ended=True)
        pointer = read_pointer(self.root / "artefact")
        wait(lambda: pointer is not None and server.version() == pointer.version, "the new version is served", programs)

    def _predicted(self) -> int:
        """Return how many rows the student had predicted as of its newest checkpoint of the stream."""
        return max(stream_checkpoints(self.folder, self.student).blocks(), default=0)


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

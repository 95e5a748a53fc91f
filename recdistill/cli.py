"""The command line: one verb per thing a person does. Nothing heavy is imported before a verb runs."""

from __future__ import annotations

import errno
import os
import signal
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from recdistill.errors import RecdistillError, UserError, printable

__all__ = ["app", "guarded", "main"]

INTERRUPTED = 130
FULL = (errno.ENOSPC, errno.EDQUOT)
REFUSED = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.ENOENT, errno.ENAMETOOLONG)

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Distil a large recommendation model into the one you can serve.",
)

Config = Annotated[Path, typer.Argument(help="The experiment file (YAML).")]
Data = Annotated[Path | None, typer.Option("--data", help="Folder that data.path is relative to.")]
Out = Annotated[Path | None, typer.Option("--out", help="Folder of the run; default runs/NAME.")]
Set = Annotated[list[str] | None, typer.Option("--set", help="Override one key: --set teacher.width=64")]
Run = Annotated[Path, typer.Argument(help="The folder of a run.")]


@app.callback()
def _options(verbose: Annotated[bool, typer.Option("--verbose", help="Show tracebacks.")] = False) -> None:
    """Options before the verb; `main` looks for --verbose itself."""


@app.command()
def demo(out: Out = None, set_: Set = None) -> None:
    """Run everything on a simulated log: teacher, raw and distilled student, report."""
    from recdistill.pipeline import demo_config, run_pipeline

    run_pipeline(demo_config(set_ or []), None, out)


@app.command()
def run(config: Config, data: Data = None, out: Out = None, set_: Set = None) -> None:
    """Run an experiment from the log to the report; run it again to resume."""
    from recdistill.config import load_file
    from recdistill.pipeline import run_pipeline

    run_pipeline(load_file(config, set_), data, out)


@app.command()
def ablate(
    config: Config,
    grid: Annotated[Path, typer.Option("--grid", help="The methods to try (YAML).")],
    data: Data = None,
    out: Out = None,
    set_: Set = None,
) -> None:
    """Try many methods on one student, over seeds, and sort them by what pays; run it again to resume."""
    from recdistill.ablate import ablate as try_all

    try_all(config, grid, data, out, set_)


@app.command()
def scale(
    config: Config,
    data: Data = None,
    out: Out = None,
    set_: Set = None,
    sweep: Annotated[
        Path | None, typer.Option("--sweep", help="The sizes to try (YAML); without, halves of the teacher's.")
    ] = None,
    axis: Annotated[list[str] | None, typer.Option("--axis", help="Only this axis; may be given again.")] = None,
) -> None:
    """Try one model in several sizes, over seeds, and fit how its loss falls; run it again to resume."""
    from recdistill.scale import scale as try_sizes

    try_sizes(config, sweep, axis or [], data, out, set_)


@app.command()
def plan(
    config: Annotated[Path | None, typer.Argument(help="The experiment file (YAML).")] = None,
    set_: Set = None,
    preset: Annotated[
        str | None, typer.Option("--preset", help="A size, without a file: 1m ... 24b, ultra-2m, ultra-40m.")
    ] = None,
    gpus: Annotated[int, typer.Option("--gpus", min=1, help="Ranks that share the work.")] = 1,
    memory: Annotated[float, typer.Option("--memory", min=0.1, help="GiB of each.")] = 80.0,
    tflops: Annotated[
        float, typer.Option("--tflops", min=0.001, help="Peak TFLOP/s of each; an H100 in bf16 has 989.")
    ] = 989.0,
    mfu: Annotated[float, typer.Option("--mfu", min=0.01, max=1.0, help="Share of the peak that is reached.")] = 0.4,
    network: Annotated[float, typer.Option("--network", min=0.001, help="GB/s between them, of each.")] = 50.0,
    rows: Annotated[float, typer.Option("--rows", min=1, max=1e15, help="Samples of the log.")] = 1e9,
    ids: Annotated[
        float, typer.Option("--ids", min=1, max=1e15, help="Distinct ids of users, items and features.")
    ] = 1e7,
) -> None:
    """Say what the teacher of an experiment will need, and how long it will take; nothing is allocated."""
    from recdistill.plan import Machine, teacher_of
    from recdistill.plan import plan as plan_of

    plan_of(
        teacher_of(config, preset, set_),
        Machine(gpus, memory * (1 << 30), tflops * 1e12, mfu, network * 1e9),
        rows,
        ids,
    )


@app.command()
def stream(
    config: Config,
    data: Data = None,
    out: Out = None,
    set_: Set = None,
    role: Annotated[
        str | None, typer.Option("--role", help="Only this process: batch, publish, ingest, gate, compact or a model.")
    ] = None,
) -> None:
    """Batch phase, then streaming, every process or one; run it again to resume."""
    from recdistill.config import load_file

    experiment = load_file(config, set_)
    if role is not None:
        from recdistill.streaming import run_alone

        return run_alone(experiment, data, out, role)
    from recdistill.stream.prefork import Prefork

    with Prefork(out or Path("runs") / experiment.name) as processes:  # it imports while we do
        from recdistill.streaming import run_stream

        run_stream(experiment, data, out, processes)


@app.command(hidden=True)
def role(run_folder: Run, room: Annotated[str, typer.Argument(help="Room for a role's name, for ps.")]) -> None:
    """Fork the processes of a stream for the command that started this one."""
    try:
        from recdistill.streaming import run_child

        run_child(run_folder)
    except KeyboardInterrupt:  # the one that started it says so for all
        os._exit(INTERRUPTED)


@app.command()
def ingest(config: Config, data: Data = None, out: Out = None, set_: Set = None) -> None:
    """Only read the log into the tables of a run."""
    from recdistill.config import load_file
    from recdistill.pipeline import ingest_stage, open_run

    experiment = load_file(config, set_)
    with open_run(experiment, data, out, trains=False) as folder:
        ingest_stage(folder, experiment, data)


@app.command()
def import_predictions(
    run_folder: Run, file: Annotated[Path, typer.Argument(help="Parquet: sample_id, and logit or probability.")]
) -> None:
    """Take a file as what the teacher of an ingested run says, instead of training one."""
    from recdistill.learn.folder import RunFolder
    from recdistill.pipeline import import_stage

    folder = RunFolder(run_folder)
    experiment = folder.experiment()
    with folder.held():
        import_stage(folder, experiment, file)


@app.command()
def train(
    run_folder: Run,
    model: Annotated[str | None, typer.Option("--model", help="Only this model.")] = None,
    shard: Annotated[
        bool, typer.Option("--shard", help="Under torchrun: spread the dense part over the ranks too.")
    ] = False,
) -> None:
    """Train the models of an ingested run that are not finished: the teacher, then the students. Under
    torchrun: one model, by ranks.
    """
    from recdistill.learn.folder import RunFolder
    from recdistill.learn.ranked import asked_for
    from recdistill.pipeline import ranked_stage, train_stage

    if asked_for():
        return ranked_stage(run_folder, model, shard)
    if shard:
        raise UserError(
            "--shard: is for several ranks; start them with torchrun --no-python recdistill train RUN --shard"
        )
    folder = RunFolder(run_folder)
    experiment = folder.experiment()
    with folder.held():
        train_stage(folder, experiment, model)


@app.command()
def evaluate(run_folder: Run) -> None:
    """Score a trained run from its tables and write summary.json."""
    from recdistill.learn.folder import RunFolder
    from recdistill.pipeline import evaluate_stage, print_summary

    folder = RunFolder(run_folder)
    experiment = folder.experiment()
    with folder.held():
        print_summary(evaluate_stage(folder, experiment))


@app.command()
def report(run_folder: Run) -> None:
    """Write report.html from summary.json."""
    from recdistill.learn.folder import RunFolder
    from recdistill.pipeline import report_stage

    folder = RunFolder(run_folder)
    folder.experiment()
    with folder.held():
        report_stage(folder)


@app.command()
def inspect(run_folder: Run) -> None:
    """Show the tables, versions and models of a run."""
    from recdistill.learn.folder import RunFolder
    from recdistill.pipeline import inspect_stage

    folder = RunFolder(run_folder)
    folder.experiment()
    inspect_stage(folder)


@app.command()
def watch(
    run_folder: Run,
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0 takes a free one.")] = 8377,
    host: Annotated[
        str,
        typer.Option("--host", help="Address to listen on; others than loopback can be read by anyone who reaches it."),
    ] = "127.0.0.1",
) -> None:
    """Serve the live page and the metrics of a run's stream."""
    from recdistill.learn.folder import RunFolder
    from recdistill.stream.watch import serve_watch

    folder = RunFolder(run_folder)
    serve_watch(folder, folder.experiment(), host, port)


Teacher = Annotated[str, typer.Option("--model", help="The teacher.")]
Versions = Annotated[str, typer.Argument(help="One, as 12, or the first and the last, as 12-14.")]


@app.command()
def revoke(
    run_folder: Run,
    versions: Versions,
    reason: Annotated[str, typer.Option("--reason", help="Why; it is kept.")],
    model: Teacher = "teacher",
) -> None:
    """Take back a teacher's versions: students that learned from them go back to before they did."""
    from recdistill.operate import revoke_stage

    revoke_stage(run_folder, versions, model, reason)


@app.command()
def release(run_folder: Run, versions: Versions, model: Teacher = "teacher") -> None:
    """Let students hear versions of a teacher that were quarantined or revoked."""
    from recdistill.operate import release_stage

    release_stage(run_folder, versions, model)


@app.command()
def lineage(run_folder: Run, model: Annotated[str, typer.Argument(help="A student, as light.distilled.s0.")]) -> None:
    """Show what each checkpoint of a student learned from."""
    from recdistill.operate import lineage_stage

    lineage_stage(run_folder, model)


@app.command()
def promote(
    run_folder: Run,
    model: Annotated[str, typer.Argument(help="A student to serve, or a teacher to hear.")],
    rows: Annotated[int | None, typer.Option("--rows", help="Which checkpoint; default the newest.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Even when it is worse than what is served.")] = False,
    start: Annotated[
        datetime | None, typer.Option("--from", help="A teacher's turn begins with samples of this time (UTC).")
    ] = None,
) -> None:
    """Serve a student's checkpoint, or let students hear another teacher."""
    from recdistill.operate import promote_stage

    promote_stage(run_folder, model, rows, force, start.replace(tzinfo=UTC) if start else None)


@app.command()
def rollback(run_folder: Run) -> None:
    """Serve again what was served before."""
    from recdistill.operate import rollback_stage

    rollback_stage(run_folder)


@app.command()
def compact(
    run_folder: Run, retain_days: Annotated[int | None, typer.Option("--retain-days", min=1, max=36_500)] = None
) -> None:
    """Merge the small files of a run's tables, and let old days go."""
    from recdistill.operate import compact_stage

    compact_stage(run_folder, retain_days)


def main() -> None:
    """Run the command line: exit code 2 and one line for the user's mistakes, 1 for ours, 130 when interrupted."""
    words = [word for word in sys.argv[1:] if word != "--verbose"] or ["--help"]
    guarded(lambda: app(words, standalone_mode=False))


def guarded(work: Callable[[], int | None]) -> None:
    """Do `work`, and end the process: every way to fail becomes one line and an exit code."""
    verbose = "--verbose" in sys.argv
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: processes end, the terminal is left in order
    try:
        code = work()
    except KeyboardInterrupt:
        code = INTERRUPTED
    except Exception as error:
        if verbose:
            raise
        _fail(*_explained(error))
    if code == INTERRUPTED:
        _fail("interrupted; run the same command again to resume", INTERRUPTED)
    sys.exit(code)


def _explained(error: Exception) -> tuple[str, int]:
    """Return (line, exit code) for whatever ended a verb."""
    text = str(error)
    full = next((reason for reason in map(os.strerror, FULL) if reason in text), None)
    if full:  # said by the system, whichever library passes it on
        return f"disk full: free space and run the same command again ({text})", 2
    if isinstance(error, RecdistillError):
        return text, 2 if isinstance(error, UserError) else 1
    if isinstance(error, typer.TyperException):
        return f"{error.format_message().rstrip('.')}; see: recdistill --help", 2
    if isinstance(error, OSError) and error.errno in REFUSED:
        return f"{error.filename}: {error.strerror}; check the path and its permissions", 2
    if isinstance(error, OSError) and error.errno == errno.EIO:  # a write that fails names no file
        return f"{error.filename or 'a file'}: {error.strerror}; check the disk and run the same command again", 2
    return (
        f"unexpected {type(error).__name__}: {text.splitlines()[0] if text else ''}; run with --verbose for the "
        "traceback",
        1,
    )


def _fail(message: str, code: int) -> None:
    print(f"recdistill: {printable(' '.join(message.split()))}", file=sys.stderr)
    sys.exit(code)


if __name__ == "__main__":
    main()

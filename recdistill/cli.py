"""The command line: one verb per thing a person does. Nothing heavy is imported before a verb runs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from recdistill.errors import RecdistillError, UserError

__all__ = ["app", "main"]

app = typer.Typer(
    add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode=None,
    help="Distil a large recommendation model into the one you can serve.",
)  # fmt: skip

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
def ingest(config: Config, data: Data = None, out: Out = None, set_: Set = None) -> None:
    """Only read the log into the tables of a run."""
    from recdistill.config import load_file
    from recdistill.pipeline import ingest_stage, open_run

    experiment = load_file(config, set_)
    ingest_stage(open_run(experiment, data, out), experiment, data)


@app.command()
def train(
    run_folder: Run, model: Annotated[str | None, typer.Option("--model", help="Only this model.")] = None
) -> None:
    """Train the models of an ingested run that are not finished: the teacher, then the students."""
    from recdistill.learn.folder import RunFolder
    from recdistill.pipeline import train_stage

    folder = RunFolder(run_folder)
    train_stage(folder, folder.experiment(), model)


@app.command()
def evaluate(run_folder: Run) -> None:
    """Score a trained run from its tables and write summary.json."""
    from recdistill.learn.folder import RunFolder
    from recdistill.pipeline import evaluate_stage

    folder = RunFolder(run_folder)
    evaluate_stage(folder, folder.experiment())


@app.command()
def report(run_folder: Run) -> None:
    """Write report.html from summary.json."""
    from recdistill.learn.folder import RunFolder
    from recdistill.pipeline import report_stage

    folder = RunFolder(run_folder)
    folder.experiment()
    report_stage(folder)


@app.command()
def inspect(run_folder: Run) -> None:
    """Show the tables, versions and models of a run."""
    from recdistill.learn.folder import RunFolder
    from recdistill.pipeline import inspect_stage

    folder = RunFolder(run_folder)
    folder.experiment()
    inspect_stage(folder)


def main() -> None:
    """Run the command line: exit code 2 and one line for the user's mistakes, 1 for ours, 130 when interrupted."""
    verbose = "--verbose" in sys.argv
    try:
        app()
    except RecdistillError as error:
        if verbose:
            raise
        _fail(str(error), 2 if isinstance(error, UserError) else 1)
    except KeyboardInterrupt:
        _fail("interrupted; run the same command again to resume", 130)
    except Exception as error:
        if verbose:
            raise
        _fail(f"unexpected {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}; "
              "run with --verbose for the traceback", 1)  # fmt: skip


def _fail(message: str, code: int) -> None:
    print(f"recdistill: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(code)

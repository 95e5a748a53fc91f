"""The command line: one verb per thing a person does. Nothing heavy is imported before a verb runs."""

from __future__ import annotations

import errno
import os
import signal
import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Annotated

import typer

from recdistill import __version__
from recdistill.cli.bench import bench_serve
from recdistill.cli.histories import histories
from recdistill.cli.logs import peek, readers
from recdistill.cli.registry import lineage, promote, revoke, rollback, unquarantine
from recdistill.cli.serving import canary, export, serve, shadow
from recdistill.cli.steps import compare, evaluate, import_predictions, ingest, inspect, predict, report, train
from recdistill.cli.streams import INTERRUPTED, compact, role, stream, watch
from recdistill.cli.studies import ablate, choose, demo, loop, plan, run, scale
from recdistill.errors import RankLostError, RecdistillError, UserError, printable

__all__ = ["app", "guarded", "main"]

FULL = (errno.ENOSPC, errno.EDQUOT)
REFUSED = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.ENOENT, errno.ENAMETOOLONG)
VERBS: tuple[Callable[..., None], ...] = (  # in the order in which --help shows them
    demo,
    run,
    ablate,
    scale,
    choose,
    plan,
    stream,
    loop,
    peek,
    readers,
    ingest,
    import_predictions,
    train,
    evaluate,
    report,
    compare,
    inspect,
    predict,
    export,
    serve,
    bench_serve,
    histories,
    canary,
    shadow,
    watch,
    revoke,
    unquarantine,
    lineage,
    promote,
    rollback,
    compact,
)

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Distil a large recommendation model into the one you can serve.",
)


def _with_paths(verb: Callable[..., None]) -> Callable[..., None]:
    """Return the verb, which refuses an address of an object store wherever it takes a path of this machine."""

    @wraps(verb)
    def checked(**given: object) -> None:
        from recdistill.storage.location import of_this_machine

        for value in given.values():
            for one in value if isinstance(value, list) else [value]:
                if isinstance(one, Path):
                    of_this_machine(one)
        verb(**given)

    return checked


for verb in VERBS:
    app.command()(_with_paths(verb))
app.command(hidden=True)(role)


def _version(asked: bool) -> None:
    if asked:
        print(f"recdistill {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    verbose: Annotated[bool, typer.Option("--verbose", help="Show tracebacks.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Options before the verb; `main` looks for --verbose itself."""


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
        _fail(*_explained(error), at_once=isinstance(error, RankLostError))
    if code == INTERRUPTED:
        _fail("interrupted; run the same command again to resume", INTERRUPTED)
    sys.exit(code)


def _explained(error: Exception) -> tuple[str, int]:
    """Return (line, exit code) for whatever ended a verb."""
    text = str(error)
    full = next((reason for reason in map(os.strerror, FULL) if reason in text), None)
    if full:  # the system's words, whichever library passes them on
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


def _fail(message: str, code: int, at_once: bool = False) -> None:
    print(f"recdistill: {printable(' '.join(message.split()))}", file=sys.stderr)
    if at_once:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)

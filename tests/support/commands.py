"""The command line, called in this process: what a command prints, and how it ends."""

from __future__ import annotations

import sys
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from unittest.mock import patch

from recdistill.cli.app import main

__all__ = ["typed"]


def typed(*words: object) -> tuple[int, str]:
    """Return (exit code, all that was printed) of a command."""
    printed = StringIO()
    command = ["recdistill", *map(str, words)]
    with (
        patch.object(sys, "argv", command),
        redirect_stdout(printed),
        redirect_stderr(printed),
    ):
        try:
            main()
        except SystemExit as ended:
            return int(ended.code or 0), printed.getvalue()
    raise AssertionError(f"{command} did not end the process")

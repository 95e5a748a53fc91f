"""Code in a process of its own, which may be killed: forked from one that has imported everything, for that takes
seconds.
"""

from __future__ import annotations

import os
import sys

from recdistill.testing.killpoints import VARIABLE
from recdistill.workers.spawn import adopt, start_context, without_main

__all__ = ["exit_code"]


def exit_code(code: str, *words: object, point: str = "") -> int | None:
    """Run Python code with the words as `sys.argv[1:]`; return how it ended: 0, 1 for what it raises, and -9 where it
    was killed, as it is once it reaches `point`.
    """
    environment = os.environ | ({VARIABLE: point} if point else {})
    process = start_context().Process(target=_run, args=(dict(environment), code, [str(word) for word in words]))
    with without_main():
        process.start()
    process.join()
    return process.exitcode


def _run(environment: dict[str, str], code: str, words: list[str]) -> None:
    adopt(environment)
    sys.argv[1:] = words
    exec(compile(code, "<code>", "exec"), {"__name__": "__main__"})

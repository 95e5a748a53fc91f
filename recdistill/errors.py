"""The kinds of failure: the user's (exit code 2), ours (exit code 1), and ours when another rank is gone."""

from collections.abc import Iterable
from difflib import get_close_matches

__all__ = ["RankLostError", "RecdistillError", "UserError", "did_you_mean", "printable"]


MAX_NAME = 64  # characters of a name in a message


class RecdistillError(Exception):
    """A failure that is not the user's to mend: exit code 1."""


class UserError(RecdistillError):
    """A mistake the user can mend: one line that says what, where and what to do; exit code 2."""


class RankLostError(RecdistillError):
    """Another rank is gone: what the two shared has threads that abort a process which ends in the usual way."""


def printable(text: str) -> str:
    """Return text without anything that a terminal would obey: control characters and line ends are spelled out."""
    return text if text.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def did_you_mean(word: str, choices: Iterable[str]) -> str:
    """Return `; did you mean 'x'?` for the closest of `choices`, else the first few choices, else an empty string."""
    known = sorted(choices)
    close = get_close_matches(word, known, n=1)
    if close:
        return f"; did you mean '{_short(close[0])}'?"
    return f"; known: {', '.join(map(_short, known[:12]))}" if known else ""


def _short(name: str) -> str:
    """Return a name that may come from a damaged file, as one short piece of a line."""
    return printable(name if len(name) <= MAX_NAME else f"{name[:MAX_NAME]}...")

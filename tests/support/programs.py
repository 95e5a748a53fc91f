"""Programs and optional packages that some tests need: `needs("nats-server")` marks a test, a module or a parameter.

The root conftest skips what cannot run here and counts it. With RECDISTILL_REQUIRE_PROGRAMS=1 it fails instead, so that
a machine that is meant to have everything leaves no test out unseen; what npm alone has is skipped there too.
"""

from __future__ import annotations

import os
import shutil
from importlib.util import find_spec

import pytest

__all__ = ["REQUIRE", "advice", "demanded", "missing", "needs", "path_of"]

REQUIRE = "RECDISTILL_REQUIRE_PROGRAMS"  # the environment variable
PROGRAMS = {  # and the Debian packages that bring them
    "nats-server": "nats-server",
    "redis-server": "redis-server",
    "chromium": "chromium",
    "cc": "gcc libc6-dev",
    "curl": "curl",
}
NPM = {"azurite-blob": "azurite"}  # and packages of npm, which not every machine has: never demanded
MODULES = {  # and the extra of recdistill that brings them
    "mkdocs": "docs",
    "obstore": "objects",
    "moto": "dev",
    "ministack": "dev",
    "triton": "fused",
    "tritonclient": "dev",
    "duckdb": "dev",
    "ray": "ray",
    "fbgemm_gpu": "torchrec",
}
SBIN = "/usr/sbin:/usr/local/sbin"  # where Debian puts servers, and no user's PATH leads


def advice(name: str) -> str:
    """Return the command that installs a program or module of the lists above. Raises KeyError on any other name."""
    if name in MODULES:
        return f"pip install 'recdistill[{MODULES[name]}]'"
    return f"npm install --global {NPM[name]}" if name in NPM else f"apt-get install {PROGRAMS[name]}"


def demanded(name: str) -> bool:
    """Return whether a test that needs it must not be skipped here."""
    return os.environ.get(REQUIRE) == "1" and name not in NPM


def path_of(program: str) -> str | None:
    """Return where a program lies, or None: on PATH, or among the servers."""
    return shutil.which(program) or shutil.which(program, path=SBIN)


def missing(name: str) -> bool:
    """Return whether a program or module is not installed."""
    return find_spec(name) is None if name in MODULES else path_of(name) is None


def needs(*names: str) -> pytest.MarkDecorator:
    """Return the mark of what runs only where all of these are installed. Raises KeyError on a name that is unknown."""
    for name in names:
        advice(name)
    return pytest.mark.needs(*names)

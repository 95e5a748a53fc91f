"""Tests whose program is not installed are skipped by name and counted, or fail where it must be there."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support import programs

pytest_plugins = "pytester"
TESTS = """
import pytest
from tests.support.programs import needs
started = []

@pytest.fixture
def server():
    started.append("a server that is not there")

@needs("cc", "no-such-program")
def test_one(server): pass

@pytest.mark.parametrize("kind", ["plain", pytest.param("served", marks=needs("no-such-program"))])
def test_two(kind): pass

def test_no_fixture_was_tried(): assert started == []
"""


@pytest.fixture
def inner(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    monkeypatch.setitem(programs.PROGRAMS, "no-such-program", "its-package")
    monkeypatch.setattr(programs, "path_of", lambda name: None if name == "no-such-program" else f"/usr/bin/{name}")
    pytester.makeconftest("from tests.conftest import pytest_runtest_setup, pytest_terminal_summary")
    pytester.makeini("[pytest]\nmarkers = needs(names): programs")
    pytester.makepyfile(TESTS)
    return pytester


def test_they_are_skipped_and_counted(inner: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(programs.REQUIRE, raising=False)
    done = inner.runpytest_inprocess("-rs")
    done.assert_outcomes(passed=2, skipped=2)
    done.stdout.fnmatch_lines(["skipped: 2 tests need no-such-program (apt-get install its-package)"])
    done.stdout.fnmatch_lines(["SKIPPED*: needs no-such-program: apt-get install its-package"])


def test_they_fail_where_everything_must_be_there(inner: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(programs.REQUIRE, "1")
    done = inner.runpytest_inprocess()
    done.assert_outcomes(passed=2, errors=2)
    done.stdout.fnmatch_lines(["*needs no-such-program, and RECDISTILL_REQUIRE_PROGRAMS=1 is set: apt-get install *"])


def test_what_npm_alone_has_is_never_demanded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(programs.REQUIRE, "1")
    assert programs.demanded("redis-server") and not programs.demanded("azurite-blob")
    assert programs.advice("azurite-blob") == "npm install --global azurite"


def test_a_name_that_nobody_listed_is_refused() -> None:
    with pytest.raises(KeyError, match="nats-sever"):
        programs.needs("nats-sever")


def test_servers_are_found_where_no_path_leads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a-server").write_text("#!/bin/sh\n")
    (tmp_path / "a-server").chmod(0o755)
    monkeypatch.setenv("PATH", "/nowhere")
    assert programs.path_of("a-server") is None
    monkeypatch.setattr(programs, "SBIN", str(tmp_path))
    assert programs.path_of("a-server") == str(tmp_path / "a-server")

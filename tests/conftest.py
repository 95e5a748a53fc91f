"""What holds for every test: one thread, no deadlines, and a skip that names the package it waits for."""

from __future__ import annotations

import os
from collections import Counter

import pytest
from hypothesis import HealthCheck, settings

from tests.support.programs import REQUIRE, advice, demanded, missing

ABSENT = "needs"  # the property of a report: what the test was skipped for

# Tests run side by side, and processes of one test too: threads that wait for a busy core would only slow them down.
for variable in ("OMP_NUM_THREADS", "POLARS_MAX_THREADS"):
    os.environ.setdefault(variable, "1")

# Tables are as wide as this, whatever the terminal and however long the path in their cells.
os.environ["COLUMNS"] = "200"

# A deadline would make a test fail on a busy machine, and says nothing about the code; nor does a slow draw.
settings.register_profile("any-load", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any-load")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what needs a program that is not here; fail where the machine is meant to have everything."""
    for name in (name for mark in item.iter_markers("needs") for name in mark.args):
        if missing(name):
            if demanded(name):
                pytest.fail(f"needs {name}, and {REQUIRE}=1 is set: {advice(name)}", pytrace=False)
            item.user_properties.append((ABSENT, name))
            pytest.skip(f"needs {name}: {advice(name)}")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say at the end how many tests each absent program cost."""
    skipped = terminalreporter.stats.get("skipped", [])
    counts = Counter(name for report in skipped for key, name in report.user_properties if key == ABSENT)
    for name, count in sorted(counts.items()):
        tests = f"{count} test needs" if count == 1 else f"{count} tests need"
        terminalreporter.write_line(f"skipped: {tests} {name} ({advice(name)})", yellow=True)

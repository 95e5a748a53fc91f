"""Rows per second of the simulator on one core: `python benchmarks/simulate.py` (about 20 s). Budget: 1,000,000 rows in
60 s.

Few users with long histories, the demo's users, and more users than rows; seconds include drawing the world. The last
column counts the log's way into the events table too, which is what `recdistill ingest` does.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

from _common import report

from recdistill.data.readers.simulator import SIMULATED, Simulator, SimulatorConfig
from recdistill.tables.events import EventLog

BUDGET = 60.0
ROWS = 1_000_000
WORLDS = {
    "50 users, 20,000 events each": SimulatorConfig(ROWS, users=50),
    "2,000 users, 500 events each": SimulatorConfig(ROWS),
    "1,000,000 users, 1 event each": SimulatorConfig(ROWS, users=1_000_000, items=1_000_000, topics=1_000),
}


def seconds(config: SimulatorConfig, table: EventLog | None) -> float:
    """Return the time to draw the log, and to write it where a table is given."""
    start = time.perf_counter()
    for sequence, chunk in enumerate(Simulator(config).chunks()):
        if table is not None:
            table.append(chunk.select(list(SIMULATED.columns())), writer="benchmark", sequence=sequence)
    return time.perf_counter() - start


def main() -> int:
    """Measure every world; the budget is for drawing and writing each."""
    rows, met = [], True
    for name, config in WORLDS.items():
        drawn = seconds(config, None)
        with tempfile.TemporaryDirectory() as folder:
            written = seconds(config, EventLog.create(Path(folder) / "events", SIMULATED))
        met &= written <= BUDGET
        rows.append([name, f"{drawn:.2f}", f"{ROWS / drawn:,.0f}", f"{written:.2f}"])
    columns = ["world", "s", "rows/s", "s, with the table"]
    return report(f"{ROWS:,} simulated rows", columns, rows, met, f"{ROWS:,} rows in {BUDGET:.0f} s")


if __name__ == "__main__":
    sys.exit(main())

"""What a run's log holds: counted with every ingest, kept as `data.json`, and shown."""

from __future__ import annotations

from pydantic import ValidationError
from rich.table import Table

from recdistill.app.progress import console, print_line, printed
from recdistill.data.store.sample_store import SampleStore
from recdistill.evaluate.data_counts import describe
from recdistill.evaluate.data_summary import DataSummary, data_sentence
from recdistill.evaluate.summary import Summary, write_atomic
from recdistill.runs.batch_ingest import notes_of
from recdistill.runs.folder import RunFolder
from recdistill.tables.events import EventLog

__all__ = ["FILE", "data_of", "print_data", "with_data"]

FILE = "data.json"
SHOWN = 20  # features in the printed table


def data_of(folder: RunFolder, version: int | None = None) -> DataSummary:
    """Return what the run's store holds, from `data.json` where that has it already; None: of the newest events."""
    events, path = EventLog.open(folder.tables / "events"), folder.root / FILE
    version = events.version if version is None else version
    try:
        found = DataSummary.model_validate_json(path.read_text(encoding="utf-8"))
        if found.version == version:
            return found
    except (OSError, ValidationError):
        pass
    with console.status("counting what the log holds"):
        found = describe(SampleStore(folder.store), events, version).model_copy(update={"notes": notes_of(folder)})
    write_atomic(found.model_dump_json(indent=1) + "\n", path)
    return found


def print_data(data: DataSummary) -> None:
    """Print a line, a table of the features, and a line per warning."""
    print_line(f"data: {data_sentence(data)}")
    if data.features:
        printed(_table(data))
    if len(data.features) > SHOWN:
        print_line(f"further features in {FILE}: {len(data.features) - SHOWN}")
    for one in data.sequences:
        print_line(f"sequence {one.sequence}: {one.words()}")
    for line in data.warnings():
        print_line(f"warning: {line}")


def _table(data: DataSummary) -> Table:
    task = data.tasks[0].task
    table = Table(
        "feature", "kind", "empty", "values", "buckets", "as a value", "most frequent", f"AUC alone, {task}", box=None
    )
    for one in data.features[:SHOWN]:
        largest = "-" if one.largest is None else f"{one.largest:.1%}"
        alone = one.auc.get(task)
        buckets = "-" if one.buckets is None else f"{one.buckets}, {one.edges}"
        score = "-" if alone is None else f"{alone:.3f}"
        table.add_row(
            one.feature, one.kind, f"{one.empty:.1%}", f"{one.values:,}", buckets, one.scale or "-", largest, score
        )
    return table


def with_data(summary: Summary, data: DataSummary) -> Summary:
    """Return the summary with what the log holds, and its warnings first among the summary's."""
    return summary.model_copy(update={"data": data, "warnings": [*data.warnings(), *summary.warnings]})

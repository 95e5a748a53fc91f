"""What a scored run leaves for people and other systems: the report, the model card, and what its trackers get."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from recdistill.config.experiment import Experiment
from recdistill.evaluate.summary import Summary
from recdistill.report.lineage import lineage_of
from recdistill.report.model_card import write_model_card
from recdistill.report.page import write_report
from recdistill.runs.folder import RunFolder
from recdistill.tracking.session import tracked

__all__ = ["publish_files", "publish_results"]


def publish_results(folder: RunFolder, summary: Summary, show: Callable[[str], None]) -> None:
    """Write report.html and model-card.md, and send them and the scores to the experiment's trackers.

    show: prints a line. Raises UserError when a file cannot be written, or a tracker's packages are missing.
    """
    experiment, root = folder.experiment(), folder.root
    lineage = lineage_of(folder, experiment, summary)
    with tracked(folder, experiment, show) as tracking:
        write_report(summary, root / "report.html")
        write_model_card(summary, lineage, root / "model-card.md")
        names = ("report.html", "model-card.md", "summary.json", "run.json")
        tracking.finished(summary, lineage, [folder.local / name for name in names])
    show(f"report: {root / 'report.html'}")


def publish_files(
    folder: RunFolder, experiment: Experiment, files: Sequence[Path], show: Callable[[str], None]
) -> None:
    """Send further files that a run has made to the experiment's trackers."""
    with tracked(folder, experiment, show) as tracking:
        tracking.files(files)

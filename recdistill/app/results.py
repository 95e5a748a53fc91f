"""What a scored run leaves for people and other systems: the report, the model card, and word to its trackers."""

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


def publish_results(folder: RunFolder, summary: Summary, say: Callable[[str], None]) -> None:
    """Write report.html and model-card.md, and tell the experiment's trackers of them and of the scores.

    say: prints a line. Raises UserError when a file cannot be written, or a tracker's packages are missing.
    """
    experiment, root = folder.experiment(), folder.root
    lineage = lineage_of(folder, experiment, summary)
    with tracked(folder, experiment, say) as tracking:
        write_report(summary, root / "report.html")
        write_model_card(summary, lineage, root / "model-card.md")
        names = ("report.html", "model-card.md", "summary.json", "run.json")
        tracking.finished(summary, lineage, [root / name for name in names])
    say(f"report: {root / 'report.html'}")


def publish_files(folder: RunFolder, experiment: Experiment, files: Sequence[Path], say: Callable[[str], None]) -> None:
    """Tell the experiment's trackers of further files that a run has made."""
    with tracked(folder, experiment, say) as tracking:
        tracking.files(files)

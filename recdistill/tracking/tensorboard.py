"""TensorBoard (extra `tensorboard`): event files in the run's folder, a TensorBoard run per model, so that the curves
of raw and distilled students lie on one chart. Look at them with: tensorboard --logdir RUN/tracking/tensorboard
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch.utils.tensorboard import SummaryWriter

from recdistill.tracking.update import Update, plain_name

__all__ = ["EventFiles", "open_run"]

MAX_OPEN = 32  # files at a time: a grid has hundreds of models, of which few are in training
ABOUT = "run"  # whose text is of the run as a whole


def open_run(root: Path, experiment: str) -> EventFiles:
    """Return the event files of a run's folder; MLflow's grouping by experiment is the reader's --logdir here."""
    return EventFiles(root / "tracking" / "tensorboard")


class EventFiles:
    """One folder of event files per model below `folder`."""

    def __init__(self, folder: Path):
        self._folder = folder
        self._open: dict[str, SummaryWriter] = {}  # the one used last is last
        self._begun: set[str] = set()

    def log(self, update: Update) -> None:
        """Write what is new, through to the disk."""
        for point in update.points:
            writer = self._writer(point.model, point.step)
            writer.add_scalar(plain_name(point.name, r"\w.\-/"), point.value, point.step, walltime=point.time)
        self._log_text("parameters", update.parameters)
        self._log_text("lineage", update.tags)
        for file in update.files:
            if file.suffix == ".md":
                self._writer(ABOUT, 0).add_text(file.name, _without_header(file.read_text(encoding="utf-8")), 0)
        for writer in self._open.values():
            writer.flush()

    def close(self, status: str) -> None:
        """Close the files."""
        for writer in self._open.values():
            writer.close()

    def _log_text(self, name: str, values: Mapping[str, str]) -> None:
        if values:
            rows = "".join(f"| {_cell(key)} | {_cell(value)} |\n" for key, value in values.items())
            self._writer(ABOUT, 0).add_text(name, f"| key | value |\n|---|---|\n{rows}", 0)

    def _writer(self, model: str, step: int) -> SummaryWriter:
        """Return a model's open file, as the one used last.

        A session that goes on after an interrupted one writes the steps since the last checkpoint again: what is there
        from `step` on is void. Step 0 is that of scores, which void nothing.
        """
        writer = self._open.pop(model, None)
        if writer is None:
            if len(self._open) >= MAX_OPEN:
                self._open.pop(next(iter(self._open))).close()
            purge = step if step and model not in self._begun else None
            self._begun.add(model)
            writer = SummaryWriter(str(self._folder / plain_name(model)), purge_step=purge)
        self._open[model] = writer
        return writer


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _without_header(card: str) -> str:
    """Return a model card without its YAML header, which TensorBoard would show as text."""
    return card.split("\n---\n", 1)[-1] if card.startswith("---\n") else card

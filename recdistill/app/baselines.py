"""A run's baselines, measured once per log and window and kept in its folder."""

from __future__ import annotations

from importlib.metadata import version
from importlib.util import find_spec

from recdistill.config.experiment import Experiment
from recdistill.data.store.label_order import LabelClock
from recdistill.data.store.memmap import read_json, write_json
from recdistill.evaluate.baselines import baselines
from recdistill.evaluate.summary import ModelSummary
from recdistill.runs.folder import RunFolder
from recdistill.tables.events import EventLog

__all__ = ["baselines_of"]


def baselines_of(folder: RunFolder, experiment: Experiment) -> dict[str, ModelSummary]:
    """Return the baselines' scores by name, from `baselines.json` where it is of the same log and window."""
    events, path = EventLog.open(folder.tables / "events"), folder.root / "baselines.json"
    pinned, asked = events.version, experiment.evaluate
    lightgbm = version("lightgbm") if find_spec("lightgbm") else None
    labels = experiment.labels.model_dump_json()
    of = {"events": pinned, "labels": labels, "start": asked.start, "group": asked.group, "lightgbm": lightgbm}
    if path.exists() and (kept := read_json(path))["of"] == of:
        return {name: ModelSummary.model_validate(one) for name, one in kept["baselines"].items()}
    found = baselines(events, pinned, asked, LabelClock.of(experiment.labels))
    write_json(path, {"of": of, "baselines": {name: one.model_dump(mode="json") for name, one in found.items()}})
    return found

"""A run's trackers while it works: each is fed by a thread of its own, so that a slow store or one that is down never
holds up the training. It costs one warning, and what it would have shown.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from recdistill.config.experiment import Experiment
from recdistill.errors import RecdistillError, UserError
from recdistill.evaluate.summary import Summary
from recdistill.runs.folder import RunFolder
from recdistill.tracking.update import Tracker, Update, parameters_of, points_of, scores_of
from recdistill.train.trainer import Progress

__all__ = ["Session", "check_trackers", "tracked"]

NEEDS = {"mlflow": ("mlflow", "sqlalchemy", "alembic"), "tensorboard": ("tensorboard",)}
SEND_EVERY = 1.0  # seconds; points of that time go as one
MAX_WAITING = 100_000  # points that a store which does not answer may leave waiting
PATIENCE = 30.0  # seconds that the end of the work waits for what is not sent yet
IMPATIENCE = 3.0  # after a failure, or where this process met the store without an answer before

_warned: set[tuple[Path, str]] = set()  # of this process: a store that is down is news once, not once per stage


def check_trackers(names: Sequence[str]) -> None:
    """Raise UserError for a tracker whose packages are not installed."""
    for name in names:
        if any(find_spec(package) is None for package in NEEDS[name]):
            raise UserError(f"tracking: {name} is not installed; run: pip install 'recdistill[{name}]'")


class Feed:
    """One tracker and the thread that feeds it; `fault` says why it has stopped, None while it has not."""

    def __init__(self, name: str, root: Path, experiment: str):
        self.name = name
        self.fault: str | None = None
        self._waiting, self._lock = Update(), threading.Lock()
        self._status, self._closing = "FINISHED", threading.Event()
        self._thread = threading.Thread(
            target=self._work, args=(root, experiment), name=f"tracking-{name}", daemon=True
        )
        self._thread.start()

    def send(self, update: Update) -> None:
        """Hand over what is new; returns at once. Nothing is taken after a fault."""
        with self._lock:
            if self.fault is None:
                self._waiting = self._waiting.then(update)
            if len(self._waiting.points) > MAX_WAITING:
                self.fault, self._waiting = f"{MAX_WAITING:,} points wait for its answer", Update()

    def close(self, status: str, patience: float) -> None:
        """Send what waits and end the tracker's session, within `patience` seconds; after a fault, wait for nothing."""
        self._status = status
        self._closing.set()
        self._thread.join(0.0 if self.fault else patience)
        if self._thread.is_alive():
            self.fault = self.fault or f"no answer within {patience:g} s"

    def _taken(self) -> Update:
        with self._lock:
            taken, self._waiting = self._waiting, Update()
        return taken

    def _work(self, root: Path, experiment: str) -> None:
        try:
            tracker: Tracker = import_module(f"recdistill.tracking.{self.name}").open_run(root, experiment)
            closing = False
            while not closing and self.fault is None:
                closing = self._closing.wait(SEND_EVERY)
                tracker.log(self._taken())
            tracker.close(self._status)
        except Exception as error:  # a tracker's library may raise anything; none of it may end a training
            self.fault = _reason(error)


def _reason(error: Exception) -> str:
    """Return an error in one short line, without the passwords that addresses carry."""
    kind = "" if isinstance(error, RecdistillError) else f"{type(error).__name__}: "
    text = " ".join(f"{kind}{error}".split())
    return re.sub(r"//[^/@\s]+@", "//...@", text)[:600]


class Session:
    """The trackers of one stage's work; they are opened by the first thing that there is to send."""

    def __init__(self, folder: RunFolder, experiment: Experiment, warn: Callable[[str], None]):
        self._root, self._experiment, self._warn = folder.local, experiment, warn
        self._feeds: list[Feed] = []

    def progress(self, model: str, at: Progress) -> None:
        """Send how far a model in training is."""
        if self._experiment.tracking:
            self._send(Update(points=points_of(model, at)))

    def finished(self, summary: Summary, lineage: Mapping[str, str], files: Sequence[Path]) -> None:
        """Send a scored run's metrics, where it comes from, and the files that are done."""
        tags = {f"recdistill.{key}": value for key, value in lineage.items()}
        self._send(Update(tags=tags, points=scores_of(summary), files=files))

    def files(self, files: Sequence[Path]) -> None:
        """Send further files that are done."""
        self._send(Update(files=files))

    def close(self, status: str) -> None:
        """End the trackers' sessions, and warn of those that did not take everything."""
        for feed in self._feeds:
            known = (self._root, feed.name) in _warned
            feed.close(status, IMPATIENCE if known or status != "FINISHED" else PATIENCE)
        self._warn_once()

    def _send(self, update: Update) -> None:
        if not self._feeds:
            names = self._experiment.tracking
            self._feeds = [Feed(name, self._root, self._experiment.name) for name in names]
            update = Update(parameters=parameters_of(self._experiment)).then(update)
        for feed in self._feeds:
            feed.send(update)
        self._warn_once()

    def _warn_once(self) -> None:
        for feed in self._feeds:
            if feed.fault and (self._root, feed.name) not in _warned:
                _warned.add((self._root, feed.name))
                self._warn(
                    f"warning: tracking: {feed.name} is out of reach, the run goes on without it ({feed.fault}); "
                    f"when it is back, send the scores with: recdistill report {self._root}"
                )


@contextmanager
def tracked(folder: RunFolder, experiment: Experiment, warn: Callable[[str], None]) -> Iterator[Session]:
    """Give the session of the experiment's trackers for the work inside; `warn` prints a line.

    Raises UserError before any work when a tracker's packages are not installed.
    """
    check_trackers(experiment.tracking)
    session, status = Session(folder, experiment, warn), "FAILED"
    try:
        yield session
        status = "FINISHED"
    except KeyboardInterrupt:
        status = "KILLED"
        raise
    finally:
        session.close(status)

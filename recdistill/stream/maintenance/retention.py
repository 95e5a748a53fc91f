"""What nobody needs any more: checkpoints too old to go back to, and the commits that only they would read again.

A log of commits grows by a file per commit, a million a day where a dozen models are busy. It is cut at the oldest
version from which any process might go on, by its kept checkpoints and its last commit.
"""

from __future__ import annotations

import json
import time

from recdistill.checkpoint.store import MIN_KEPT, Checkpoints
from recdistill.config.experiment import Experiment
from recdistill.runs.folder import RunFolder
from recdistill.runs.jobs import Job, jobs_by_name
from recdistill.stream.gate.process import STATE, WRITER
from recdistill.stream.ingest.process import readers_of
from recdistill.stream.workers.build import stream_checkpoints
from recdistill.tables.delta.commits import commits_back, version_before
from recdistill.tables.delta.log import DeltaLog

__all__ = ["cut_logs", "remove_checkpoints", "needed"]

Needs = dict[str, int]  # table -> version from which a process goes on


def remove_checkpoints(folder: RunFolder, jobs: list[Job], before: float) -> int:
    """Remove the models' checkpoints published before `before` (epoch seconds), but for each one's newest;
    return how many.
    """
    gone = 0
    for job in jobs:
        checkpoints = stream_checkpoints(folder, job.name)
        for block in checkpoints.blocks()[:-MIN_KEPT]:
            try:
                old = checkpoints.published_at(block) < before
            except FileNotFoundError:  # the model removed it meanwhile
                continue
            if old:
                checkpoints.discard(block)
                gone += 1
    return gone


def _of_model(checkpoints: Checkpoints) -> Needs | None:
    """Return from where a model's oldest checkpoint goes on; None when it has none and starts at the hand-over."""
    for block in checkpoints.blocks():
        try:
            versions = checkpoints.state(block)["versions"]
            return {name: int(version) for name, version in versions.items() if version is not None}
        except (FileNotFoundError, ValueError, KeyError):  # removed meanwhile, or damaged: a newer one needs less
            continue
    return None


def _of_gate(verdicts: DeltaLog) -> Needs | None:
    """Return from where the gate goes on; None when it has committed nothing yet."""
    last = verdicts.last_commit(WRITER)
    if last is None or STATE not in last.metadata:
        return None
    state = json.loads(last.metadata[STATE])
    needs = {"predictions": int(state["seen"]), "verdicts": last.version}
    for teacher in state["teachers"].values():
        if not teacher["ended"]:
            place = {name: teacher["place"][name] for name in ("events", "outcomes")}
            needs = _lower(needs, {"predictions": teacher["commit"], **place})
    return needs


def _last_commits(log: DeltaLog, writers: set[str]) -> Needs:
    """Return the version of the oldest among the writers' newest commits; of those that wrote nothing there
    is none to keep.
    """
    version, left = log.version, set(writers)
    for commit in commits_back(log.path, log.version):
        if left & commit.writers.keys():
            version, left = commit.version, left - commit.writers.keys()
        if not left:
            break
    return {log.path.name: version}


def _lower(one: Needs, other: Needs) -> Needs:
    return {
        name: min(value for value in (one.get(name), other.get(name)) if value is not None)
        for name in one.keys() | other.keys()
    }


def needed(folder: RunFolder, experiment: Experiment, jobs: list[Job], logs: dict[str, DeltaLog]) -> Needs:
    """Return, per table, the oldest version from which a process of the stream might go on; none while one
    has yet to begin.
    """
    states = [_of_model(stream_checkpoints(folder, job.name)) for job in jobs]
    states += [_of_gate(logs["verdicts"])] if "verdicts" in logs else [None]
    readers = set(readers_of(experiment))
    writers = {"predictions": {f"{job.writer}/stream" for job in jobs}, "verdicts": {WRITER}}
    needs = {name: log.version for name, log in logs.items()}
    for state in [*states, *(_last_commits(log, writers.get(name, readers)) for name, log in logs.items())]:
        if state is None:
            return {}
        needs = _lower(needs, state)
    return needs


def cut_logs(folder: RunFolder, experiment: Experiment, logs: dict[str, DeltaLog]) -> dict[str, int]:
    """Remove what is older than `stream.undo_hours`, as far as no process goes on from there; return the
    number of commits removed, by table.
    """
    before = time.time() - experiment.stream.undo_hours * 3600
    jobs = list(jobs_by_name(experiment).values())
    remove_checkpoints(folder, jobs, before)
    needs = needed(folder, experiment, jobs, logs)
    cut = {
        name: logs[name].cut(min(version, version_before(logs[name].path, before)))
        for name, version in needs.items()
        if name in logs
    }
    return {name: commits for name, commits in cut.items() if commits}

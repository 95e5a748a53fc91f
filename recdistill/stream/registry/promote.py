"""Which student is served: a stream's checkpoint becomes a version of an artefact, in RUN/serving unless another folder
is named, and `current.json` there names the one that is served.

Here it is decided whether a checkpoint may be; app/export.py writes it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from recdistill.errors import UserError, did_you_mean
from recdistill.evaluate.metrics import ne_of_sums
from recdistill.runs.folder import RunFolder
from recdistill.runs.jobs import Job
from recdistill.runs.names import is_teacher
from recdistill.serve.artefact import Manifest
from recdistill.serve.versions import roll_back, served, versions
from recdistill.storage.location import names
from recdistill.stream.progress import ModelProgress, read_progress
from recdistill.tables.delta.commits import commits_back
from recdistill.tables.delta.paths import has_commit
from recdistill.tables.predictions import PredictionLog
from recdistill.tables.verdicts import VerdictLog, Verdicts
from recdistill.train.trained import Trained, trained

__all__ = [
    "Promotion",
    "check_revoked",
    "check_student",
    "current",
    "may_serve",
    "progressive_ne",
    "promotions",
    "rollback",
    "serving",
    "students",
    "verdicts_of",
]

NE_ROWS = 50_000  # over which a student's recent NE is compared


@dataclass(frozen=True)
class Promotion:
    """A version that a student's checkpoint became. rows: those its model had predicted; learned_from: see
    `Lineage`; current: whether it is served now.
    """

    version: int
    model: str
    rows: int
    learned_from: dict[str, dict[int, int]]
    current: bool


def serving(folder: RunFolder) -> Path:
    """Return the folder of versions of a run; UserError for a run in an object store, which has none."""
    if not isinstance(folder.root, Path):
        raise UserError(f"{folder.root}: versions are served from a folder; name it with --to")
    return folder.root / "serving"


def _promotion(manifest: Manifest, now: int | None) -> Promotion | None:
    """Return what a version is, None where its lineage is none of a run's. now: the version that is served."""
    try:
        rows, versions_of = int(manifest.lineage["rows"]), manifest.lineage["learned_from"].items()
        learned_from = {
            teacher: {int(version): int(count) for version, count in found.items()} for teacher, found in versions_of
        }
    except (KeyError, TypeError, ValueError, AttributeError):
        return None
    return Promotion(manifest.version, manifest.model, rows, learned_from, manifest.version == now)


def current(root: Path) -> Promotion | None:
    """Return what the folder of versions `root` serves, None where nothing was promoted; UserError where it is
    damaged.
    """
    found = served(root)
    return None if found is None else _promotion(found, found.version)


def promotions(root: Path) -> list[Promotion]:
    """Return the versions in `root` that can be read, in order; where the pointer is damaged, none is current."""
    now: int | None = None
    with suppress(UserError):
        found = served(root)
        now = found.version if found else None
    return [one for one in (_promotion(manifest, now) for manifest in versions(root)) if one is not None]


def may_serve(
    folder: RunFolder, job: Job, root: Path, rows: int | None = None, *, margin: float = 0.01, force: bool = False
) -> Trained:
    """Return a student's stream checkpoint that may be served from `root`: the newest, or the first of `rows` rows or
    more.

    Raises UserError for one that is not there, is damaged or learned from a version that was revoked since, and, unless
    `force`, where its progressive NE over its last NE_ROWS rows is unknown, 1 or more, or above the served model's over
    the same rows by more than `margin`.
    """
    check_student(folder, job.name)
    found = trained(folder, job, rows)
    check_revoked(folder, job.name, found)
    if not force:
        _check_ne(folder, job.name, found.rows, current(root), margin)
    return found


def check_student(folder: RunFolder, model: str) -> None:
    """Raise UserError for a model that is no student with checkpoints of a stream."""
    if model not in students(folder):
        raise UserError(
            f"{folder.root}: no student '{model}' with checkpoints of a stream{did_you_mean(model, students(folder))}; "
            "what a batch run trained: recdistill export"
        )


def check_revoked(folder: RunFolder, model: str, found: Trained) -> None:
    """Raise UserError for a checkpoint that learned from a version that was revoked since."""
    if bad := verdicts_of(folder).revoked(found.state.get("learned_from", {})):
        raise UserError(
            f"{model}: its checkpoint {found.rows} learned from {', '.join(bad)}, revoked since; choose an older one "
            "with --rows"
        )


def students(folder: RunFolder) -> list[str]:
    """Return the names of the students with checkpoints of a stream."""
    models = folder.root / "models"
    return sorted(name for name in names(models) if not is_teacher(name) and (models / name / "stream").is_dir())


def verdicts_of(folder: RunFolder) -> Verdicts:
    """Return all verdicts up to now."""
    verdicts = Verdicts()
    if folder.verdicts.exists():
        verdicts.update(VerdictLog.open(folder.verdicts))
    return verdicts


def progressive_ne(folder: RunFolder, model: str, end_row: int, rows: int = NE_ROWS) -> float:
    """Return the progressive NE of `model` over the `rows` rows before row `end_row` of the stream; NaN when unknown.

    The figure is bounded by commits, so it may be of up to a commit's rows more; of fewer rows where older commits were
    removed.
    """
    log = PredictionLog.open(folder.predictions)
    reported = _reported(log, model, end_row)
    newest = next(reported, None)
    if newest is None:
        return math.nan
    oldest = newest
    for oldest in reported:
        if oldest.rows <= end_row - rows:
            break
    else:
        oldest = ModelProgress() if has_commit(log.path, 0) else oldest
    end, start = newest.sums, oldest.sums
    labels, positives = end.labels - start.labels, end.positives - start.positives
    return float(ne_of_sums(end.logloss - start.logloss, labels, positives))


def _reported(log: PredictionLog, model: str, end_row: int) -> Iterator[ModelProgress]:
    """Yield what `model` reported up to row `end_row`, newest first, of the commits that were not removed."""
    for commit in commits_back(log.path, log.version):
        progress = read_progress(ModelProgress, commit.metadata) if commit.metadata.get("model") == model else None
        if progress is not None and progress.rows <= end_row:
            yield progress


def _check_ne(folder: RunFolder, model: str, rows: int, served: Promotion | None, margin: float) -> None:
    found = progressive_ne(folder, model, rows)
    if math.isnan(found):
        raise UserError(
            f"{model}: its NE is unknown, for too few labels are known so far, or the first task is a regression, "
            "which has none; wait for more, or force it"
        )
    if found >= 1:
        raise UserError(
            f"{model}: its NE over the last rows is {found:.4f}: no better than the base rate; force it to serve it "
            "still"
        )
    if served is None or served.model == model:
        return
    other = progressive_ne(folder, served.model, rows)
    if found > other + margin:
        raise UserError(
            f"{model}: its NE over the last rows is {found:.4f}, {served.model}'s, which is served, {other:.4f} "
            f"(margin {margin:g}); force it to serve it still"
        )


def rollback(folder: RunFolder, root: Path) -> Promotion:
    """Serve from `root` what was served before, or the last before it that is whole and learned from nothing revoked
    since.

    Raises UserError when there is none.
    """
    verdicts = verdicts_of(folder)

    def may(manifest: Manifest) -> bool:
        made = _promotion(manifest, None)
        return made is not None and not verdicts.revoked(made.learned_from)

    found = roll_back(root, may)
    made = _promotion(found, found.version)
    if made is None:  # not one that `may` has let through
        raise UserError(f"{root}: version {found.version} does not tell where it comes from; promote a student")
    return made

"""Which student is served: RUN/serving/NAME/NUMBER holds what was promoted, RUN/serving/current.json names the one
that is served.

Both appear by one rename, so that whoever serves sees the old or the new, whole.
"""

from __future__ import annotations

import math
import shutil
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from recdistill.checkpoint.store import Checkpoints, sync
from recdistill.data.store.memmap import read_json, write_json
from recdistill.errors import UserError, did_you_mean
from recdistill.evaluate.metrics import ne_of_sums
from recdistill.runs.folder import RunFolder, locked
from recdistill.runs.names import is_teacher
from recdistill.stream.progress import ModelProgress, Sums, read_progress
from recdistill.tables.predictions import PredictionLog
from recdistill.tables.verdicts import VerdictLog, Verdicts

__all__ = [
    "Promotion",
    "current",
    "progressive_ne",
    "promote",
    "promotions",
    "rollback",
    "students",
    "verdicts_of",
]

NE_ROWS = 50_000  # over which a student's recent NE is compared


@dataclass(frozen=True)
class Promotion:
    """A promoted checkpoint. name: its folder under RUN/serving, MODEL/NUMBER; rows: those its model had predicted.

    learned_from, versions: its lineage (see `Lineage`). before: the name of what it replaced. current: whether it is
    served now.
    """

    name: str
    model: str
    rows: int
    time: str
    learned_from: dict[str, dict[int, int]]
    versions: dict[str, int | None]
    before: str | None
    current: bool = False


def _read(path: Path, served: str | None) -> Promotion:
    tree = read_json(path)
    learned_from = {
        teacher: {int(version): rows for version, rows in versions.items()}
        for teacher, versions in tree["learned_from"].items()
    }
    return Promotion(**{**tree, "learned_from": learned_from, "current": tree["name"] == served})


def current(folder: RunFolder) -> Promotion | None:
    """Return what is served, None when nothing was promoted; UserError when the file is damaged."""
    path = _root(folder) / "current.json"
    if not path.exists():
        return None
    try:
        return _read(path, read_json(path)["name"])
    except (ValueError, KeyError, TypeError, AttributeError):
        raise UserError(f"{path}: damaged; delete it and promote a student again") from None


def promotions(folder: RunFolder) -> list[Promotion]:
    """Return everything that was promoted and is still whole, by model and number."""
    served = current(folder)
    found = sorted(
        _root(folder).glob("*/*/promoted.json"), key=lambda path: (path.parts[-3], len(path.parts[-2]), path.parts[-2])
    )
    kept = [
        path
        for path in found
        if path.parent.name.isdigit() and Checkpoints(path.parents[1]).whole(int(path.parent.name))
    ]
    return [_read(path, served.name if served else None) for path in kept]


def promote(
    folder: RunFolder, model: str, rows: int | None = None, *, margin: float = 0.01, force: bool = False
) -> Promotion:
    """Publish a student's stream checkpoint, by default its newest, for serving; return what is served now.

    Raises UserError for one that is not there, is damaged or learned from a version that was revoked since, and, unless
    `force`, where its progressive NE over its last NE_ROWS rows is unknown, 1 or more, or above the served model's over
    the same rows by more than `margin`.
    """
    checkpoints = Checkpoints(folder.model(model) / "stream")
    rows = _chosen(folder, model, checkpoints, rows)
    state = checkpoints.state(rows)
    if bad := verdicts_of(folder).revoked(state["learned_from"]):
        raise UserError(
            f"{model}: its checkpoint {rows} learned from {', '.join(bad)}, revoked since; choose an older one with "
            "rows"
        )
    with locked(_root(folder) / "lock", f"{folder.root}: another process promotes or rolls back; try again"):
        served = current(folder)
        if not force:
            _check_ne(folder, model, rows, served, margin)
        return _publish(folder, checkpoints.path(rows), model, rows, state, served)


def _root(folder: RunFolder) -> Path:
    return folder.root / "serving"


def _chosen(folder: RunFolder, model: str, checkpoints: Checkpoints, rows: int | None) -> int:
    blocks = checkpoints.blocks()
    if model not in students(folder) or not blocks:
        raise UserError(
            f"{folder.root}: no student '{model}' with checkpoints of a stream{did_you_mean(model, students(folder))}"
        )
    rows = blocks[-1] if rows is None else rows
    if rows not in blocks:
        raise UserError(f"{model}: has no checkpoint of {rows} rows; there are {', '.join(map(str, blocks))}")
    if not checkpoints.whole(rows):
        raise UserError(f"{checkpoints.path(rows)}: damaged; choose another of {', '.join(map(str, blocks))}")
    return rows


def students(folder: RunFolder) -> list[str]:
    """Return the names of the students with checkpoints of a stream."""
    return sorted(path.parent.name for path in folder.root.glob("models/*/stream") if not is_teacher(path.parent.name))


def verdicts_of(folder: RunFolder) -> Verdicts:
    """Return all verdicts up to now."""
    verdicts = Verdicts()
    if folder.verdicts.exists():
        verdicts.update(VerdictLog.open(folder.verdicts))
    return verdicts


def progressive_ne(folder: RunFolder, model: str, end_row: int, rows: int = NE_ROWS) -> float:
    """Return the progressive NE of `model` over the `rows` rows before row `end_row` of the stream; NaN when unknown.

    The figure is bounded by commits, so it may be of up to a commit's rows more.
    """
    log = PredictionLog.open(folder.predictions)
    end: Sums | None = None
    start = Sums()
    for version in range(log.version, -1, -1):
        commit = next(log.commits(version - 1, version))
        progress = read_progress(ModelProgress, commit.metadata) if commit.metadata.get("model") == model else None
        if progress is None:
            continue
        if end is None and progress.rows <= end_row:
            end = progress.sums
        elif progress.rows <= end_row - rows:
            start = progress.sums
            break
    if end is None:
        return math.nan
    labels, positives = end.labels - start.labels, end.positives - start.positives
    return float(ne_of_sums(end.logloss - start.logloss, labels, positives))


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


def _publish(
    folder: RunFolder, source: Path, model: str, rows: int, state: dict[str, Any], served: Promotion | None
) -> Promotion:
    """Copy a checkpoint next to its final name, rename it, then name it in current.json."""
    published = Checkpoints(_root(folder) / model)
    number = max(published.blocks(), default=0) + 1
    final = published.path(number)
    part = final.with_name(f"{final.name}.part")
    name = f"{model}/{final.name}"
    now = datetime.now(UTC).isoformat(timespec="milliseconds")
    made = Promotion(name, model, rows, now, state["learned_from"], state["versions"], served.name if served else None)
    shutil.rmtree(part, ignore_errors=True)
    try:
        shutil.copytree(source, part)
        for path in part.iterdir():
            sync(path)
        write_json(part / "promoted.json", _tree(made))
        sync(part)
        part.rename(final)
    except FileNotFoundError:
        raise UserError(f"{source}: was removed while it was copied; try again") from None
    finally:
        shutil.rmtree(part, ignore_errors=True)
    sync(published.folder)
    if not published.whole(number):
        raise UserError(f"{final}: was damaged while it was copied; try again")
    _serve(folder, _tree(made))
    return _read(_root(folder) / "current.json", made.name)


def _tree(promotion: Promotion) -> dict[str, Any]:
    return {key: value for key, value in asdict(promotion).items() if key != "current"}


def _serve(folder: RunFolder, tree: dict[str, Any]) -> None:
    write_json(_root(folder) / "current.json", tree)
    sync(_root(folder))


def rollback(folder: RunFolder) -> Promotion:
    """Serve again what the served one replaced, or the last before it that is whole and learned from nothing
    revoked since.

    Raises UserError when there is none.
    """
    with locked(_root(folder) / "lock", f"{folder.root}: another process promotes or rolls back; try again"):
        served = current(folder)
        if served is None:
            raise UserError(f"{folder.root}: nothing is served; promote a student first")
        known = {promotion.name: promotion for promotion in promotions(folder)}
        verdicts, name = verdicts_of(folder), served.before
        while name is not None and name in known and verdicts.revoked(known[name].learned_from):
            name = known[name].before
        if name is None or name not in known:
            raise UserError(f"{folder.root}: before {served.name} no student was served that could be served again")
        _serve(folder, {**_tree(known[name]), "time": datetime.now(UTC).isoformat(timespec="milliseconds")})
        return _read(_root(folder) / "current.json", name)

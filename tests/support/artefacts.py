"""A small exported model, and copies of it that claim to be others."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import polars as pl

from recdistill.api.run import Run
from recdistill.data.store.memmap import read_json, write_json
from recdistill.serve.artefact import MANIFEST, checksum_of
from recdistill.serve.sample_ids import sample_of
from recdistill.tables.events import EventLog
from tests.support.runs import finish, tiny

__all__ = ["changed", "exported", "happened", "two_versions", "version_of"]


@cache
def _made() -> TemporaryDirectory[str]:
    """Return a folder with a run and a folder of its two versions: made once of a process, and copied."""
    kept = TemporaryDirectory()
    run, to = Path(kept.name) / "run", Path(kept.name) / "versions"
    finish(run, tiny(), "teacher", "light.raw.s0")
    Run(run).model("teacher").export(to)
    Run(run).model("light.raw.s0").export(to, serves=False)
    return kept


def two_versions(root: Path) -> Path:
    """Return a folder of two versions, of different weights, the first served: `versions`, next to their `run`."""
    shutil.copytree(_made().name, root, dirs_exist_ok=True)
    return root / "versions"


def exported(root: Path) -> Path:
    """Return a folder of versions, of which there is one: a teacher, trained for a moment; next to its `run`."""
    made = two_versions(root)
    shutil.rmtree(made / "2")
    return made


def changed(folder: Path, **values: Any) -> None:
    """Let an artefact's manifest have other values, and the checksum that fits."""
    tree = read_json(folder / MANIFEST)
    tree.pop("checksum")
    tree |= values
    write_json(folder / MANIFEST, {**tree, "checksum": checksum_of(tree)})


def version_of(artefact: Path, to: Path, number: int, **values: Any) -> Path:
    """Return a copy of an artefact as version `number` in the folder `to`."""
    place = to / str(number)
    shutil.copytree(artefact, place)
    changed(place, version=number, **values)
    return place


def happened(run: Path, users: range, items: list[int], label: Callable[[int, int], float]) -> None:
    """Let requests `rUSER` of the second 1e9, for these items, be events of a run's log; label: of a user and item."""
    events = EventLog.open(run / "tables" / "events")
    like = next(iter(events.batches()))[0]
    made = [(user, item) for user in users for item in items]
    rows = pl.concat([like] * len(made)).with_columns(
        sample_id=pl.Series([sample_of(f"r{user}", item) for user, item in made]),
        time=pl.lit(10**15).cast(like["time"].dtype),
        user_id=pl.Series([user for user, _ in made]),
        item_id=pl.Series([item for _, item in made]),
        label_click=pl.Series([label(*one) for one in made], dtype=pl.Float32),
    )
    events.append(rows.select(list(events.schema.columns())), writer=f"served {users}", sequence=0)

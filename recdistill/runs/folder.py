"""The folder of a run: what lies where, and whose it is."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

from pydantic import ValidationError

from recdistill.config.base import NAME
from recdistill.config.experiment import Experiment
from recdistill.config.flat import flat
from recdistill.data.store.memmap import read_json, write_json
from recdistill.errors import UserError
from recdistill.locks import locked
from recdistill.runs.names import ModelName
from recdistill.storage.lease import LEASE, Lease, leased
from recdistill.storage.location import Location, local_path, names, remove, write

__all__ = ["NOTES_FILE", "RunFolder", "check_inside", "fingerprint"]

NOTES_FILE = "notes.json"  # in the tables' folder, written last
FIRST_FILES = {"lock", "run.json.part", LEASE}  # all that a process killed while claiming an empty folder leaves there


def fingerprint(*parts: object) -> str:
    """Return 12 hex digits of the SHA-256 of the parts' JSON: equal parts, equal fingerprint."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:12]


@dataclass(frozen=True)
class RunFolder:
    """Paths of a run under `root`; `claim` says which experiment it belongs to."""

    root: Location

    @property
    def here(self) -> Path:
        """The root, where it is local; UserError where it is a place of an object store."""
        return local_path(self.root)

    @property
    def local(self) -> Path:
        """Where this machine keeps what is derived from the tables, and may be deleted: the root, where it is local."""
        return self.root if isinstance(self.root, Path) else self.root.local

    @property
    def ingested(self) -> bool:
        """Whether the log was read to its end: the tables have their final name, or their last object is there."""
        return (self.tables if isinstance(self.root, Path) else self.tables / NOTES_FILE).exists()

    @property
    def exists(self) -> bool:
        """Whether there is a run."""
        return self._about.exists()

    @property
    def tables(self) -> Location:
        """Delta tables: events, behaviors."""
        return self.root / "tables"

    @property
    def predictions(self) -> Location:
        """The Delta table of recorded logits."""
        return self.root / "predictions"

    @property
    def store(self) -> Path:
        """Memory-mapped columns derived from the tables; may be deleted."""
        return self.local / "store"

    @property
    def signals(self) -> Path:
        """The teacher's logits joined to the store's order; may be deleted."""
        return self.local / "signals"

    @property
    def verdicts(self) -> Location:
        """The Delta table of the gate's and people's verdicts on teachers' versions."""
        return self.root / "verdicts"

    @property
    def dead(self) -> Location:
        """The Delta table of messages and rows that could not be taken, with the reason."""
        return self.root / "dead"

    @property
    def logs(self) -> Path:
        """Structured logs, a file per process of a stream."""
        return self.local / "logs"

    def lock(self, name: str) -> Path:
        """The file by which one process of this machine trains a model at a time."""
        return self.local / "models" / name / "lock"

    def model(self, name: str) -> Location:
        """Checkpoints of one model; UserError for what is no name."""
        if not NAME.fullmatch(name):
            raise UserError(f"{self.root}: {name!r} is no name of a model")
        return self.root / "models" / name

    @contextmanager
    def claimed(self, experiment: Experiment, data: str, grows: bool = False) -> Iterator[None]:
        """Make the folder this experiment's, or confirm that it is, and keep other processes out meanwhile.

        Raises UserError when it holds another run or other files, or another process works on it. Scores may be asked
        for again with other `evaluate` settings that train nothing new; everything else must be equal. grows: but for
        models that have no checkpoint yet, as a notebook brings them one by one. What was made here goes again when it
        is left with nothing ingested.
        """
        mine = {"experiment": experiment.model_dump(mode="json"), "data": data}
        if not self._about.exists() and names(self.root) - FIRST_FILES:
            raise UserError(f"{self.root}: holds files that are no run of recdistill; choose another --out")
        check_inside(self.root)
        made = [path for path in (self.local, *self.local.parents) if not path.exists()]
        try:
            self.local.mkdir(parents=True, exist_ok=True)
            with self.held() as lease:
                if self._about.exists():
                    found = self._read()
                    self._compare(found, mine, grows)
                    mine |= {key: found[key] for key in ("sources", "id") if key in found and self.ingested}
                yield from self._claim(mine, lease)
        finally:
            for path in made:
                with suppress(OSError):  # not empty: there is a run
                    path.rmdir()

    def _claim(self, mine: dict[str, Any], lease: Lease | None) -> Iterator[None]:
        before = names(self.root) - FIRST_FILES - {"run.json", "tables.part", "tables"}
        try:
            if not isinstance(self.root, Path):
                mine.setdefault("id", str(uuid4()))
                self._of_run(mine["id"])
            write_json(self._about, mine)
            yield
        finally:
            gone = lease is not None and not lease.ours()  # then what is here is another's
            for path in [] if gone or self.ingested else self.root.iterdir():
                if path.name not in before | {LEASE}:
                    remove(path)

    def _of_run(self, identity: str) -> None:
        """Empty this machine's folder of a place of an object store, where it is of a run that was there before."""
        note = self.local / "id"
        if not note.exists() or note.read_text(encoding="utf-8") != identity:
            for path in self.local.iterdir():
                if path.name != "lock":
                    remove(path)
            write(note, identity.encode())

    @contextmanager
    def held(self) -> Iterator[Lease | None]:
        """Keep other processes out of the run, and give its lease in an object store, where what this machine has of
        another run that was there before is removed; UserError when a process is at work there already.
        """
        busy, lock = f"{self.root}: another process is at work on this run; wait for it or stop it", self.local / "lock"
        with locked(lock, busy):
            if isinstance(self.root, Path):
                yield None
                return
            with leased(self.root, lock, busy) as lease:
                if self._about.exists() and (identity := self._read().get("id")):
                    self._of_run(str(identity))
                yield lease

    @property
    def _about(self) -> Location:
        return self.root / "run.json"

    def _read(self) -> dict[str, Any]:
        with suppress(ValueError, RecursionError):
            found = read_json(self._about)
            if isinstance(found, dict):
                return found
        raise UserError(f"{self._about}: damaged; choose another --out or delete the folder")

    def _compare(self, found: dict[str, Any], mine: dict[str, Any], grows: bool = False) -> None:
        trees = (_of_this_version(found), mine)
        old, new = (flat({k: v for k, v in tree.items() if k not in ("sources", "id")}) for tree in trees)
        free = (
            "experiment.evaluate.",
            "experiment.processes",
            "experiment.workers.",
            "experiment.tracking",
            "experiment.export_check",
            "experiment.stream.speed",
            "experiment.stream.patience_s",
            "experiment.teachers.",
            "experiment.stream.source.options.",
        )
        changed = [
            key
            for key in sorted(old.keys() | new.keys(), key=lambda key: (key in new, key))
            if old.get(key) != new.get(key)
            and not key.startswith(free)
            and not key.endswith(".device")
            and not (grows and not self._started(key))
        ]
        if changed:
            key = changed[0]
            raise UserError(
                f"{self.root}: holds another run ({key.removeprefix('experiment.')}: {old.get(key)!r} there, "
                f"{new.get(key)!r} now); choose another --out or delete it"
            )

    def _started(self, key: str) -> bool:
        """Return whether what a key of the experiment describes has begun; a model without checkpoints has not."""
        group, _, rest = key.removeprefix("experiment.").partition(".")
        if group == "teacher":
            return self.model("teacher").exists()
        if group == "students":
            found = (ModelName.find(name) for name in names(self.root / "models"))
            return any(rest.startswith(f"{one.name}.") for one in found if one is not None and one.kind == "student")
        return True

    def sources(self) -> dict[str, Any] | None:
        """Return what the log was when it was read, None where that is not known."""
        found = self._read().get("sources") if self.exists else None
        return dict(found) if found is not None else None

    def record_sources(self, marks: dict[str, Any]) -> None:
        """Write down what the log was when it was read."""
        about = self._read() if self.exists else {}
        self.local.mkdir(parents=True, exist_ok=True)
        write_json(self._about, {**about, "sources": marks})

    def forget(self) -> None:
        """Remove what was made of the tables: models, predictions, scores; frames that a notebook gave stay, and what
        is served, which holds all that it needs.
        """
        for path in self.here.iterdir():
            if path.name not in {"lock", "run.json", "serving", "tables", "tables.part"} and path.suffix != ".parquet":
                remove(path)

    def belongs(self, experiment: Experiment, data: str) -> None:
        """Raise UserError unless the folder holds this experiment's run; other processes may be at work there."""
        self.experiment()
        self._compare(self._read(), {"experiment": experiment.model_dump(mode="json"), "data": data})

    def data(self) -> Path | None:
        """Return the folder that the experiment's data.path is relative to, as the run was started."""
        where = str(self._read()["data"])
        return Path(where) if where else None

    def experiment(self) -> Experiment:
        """Return the experiment this folder belongs to; UserError when it holds none, or a link to elsewhere."""
        if not self._about.exists():
            raise UserError(f"{self.root}: holds no run; start one with: recdistill run CONFIG --out {self.root}")
        check_inside(self.root)
        try:
            return Experiment.model_validate(self._read()["experiment"])
        except (ValidationError, KeyError, TypeError):
            raise UserError(f"{self._about}: not of this version of recdistill; choose another --out") from None


def _of_this_version(about: dict[str, Any]) -> dict[str, Any]:
    """Return what run.json says with every key that this version has; one that an older version did not know yet has
    its default. As it is where this version does not know a key of it.
    """
    with suppress(ValidationError, KeyError):
        return about | {"experiment": Experiment.model_validate(about["experiment"]).model_dump(mode="json")}
    return about


def check_inside(root: Location) -> None:
    """Raise UserError where a run's folder holds a link, a device or a pipe: a run touches nothing that lies elsewhere.

    The folder itself may be reached by a link; object stores have none.
    """
    folders = [str(root)] if isinstance(root, Path) else []
    while folders:
        try:
            with os.scandir(folders.pop()) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(entry.path)
                    elif not entry.is_file(follow_symlinks=False):
                        raise UserError(
                            f"{entry.path}: a link, or no file at all; a run keeps everything in its own folder: "
                            "put the file or folder itself there"
                        )
        except (FileNotFoundError, NotADirectoryError):  # removed meanwhile by a process of the run
            continue

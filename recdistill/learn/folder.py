"""The folder of a run: what lies where, and whose it is."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import dataclass
from pathlib import Path

from recdistill.config import Experiment
from recdistill.data.columns import read_json, write_json
from recdistill.errors import UserError

__all__ = ["RunFolder", "fingerprint"]


def fingerprint(*parts: object) -> str:
    """Return 12 hex digits of the SHA-256 of the parts' JSON: equal parts, equal fingerprint."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:12]


@dataclass(frozen=True)
class RunFolder:
    """Paths of a run under `root`; `claim` says which experiment it belongs to."""

    root: Path

    @property
    def tables(self) -> Path:
        """Delta tables: events, behaviors."""
        return self.root / "tables"

    @property
    def predictions(self) -> Path:
        """The Delta table of recorded logits."""
        return self.root / "predictions"

    @property
    def store(self) -> Path:
        """Memory-mapped columns derived from the tables; may be deleted."""
        return self.root / "store"

    @property
    def signals(self) -> Path:
        """The teacher's logits joined to the store's order; may be deleted."""
        return self.root / "signals"

    def model(self, name: str) -> Path:
        """Checkpoints of one model."""
        return self.root / "models" / name

    def claim(self, experiment: Experiment, data: str) -> None:
        """Make the folder this experiment's, or confirm that it is.

        Raises UserError when it holds another run or other files. Scores may be asked for again with other
        `evaluate` settings that train nothing new; everything else must be equal.
        """
        mine = {"experiment": experiment.model_dump(mode="json"), "data": data}
        about = self.root / "run.json"
        if about.exists():
            self._compare(read_json(about), mine)
        elif self.root.exists() and any(self.root.iterdir()):
            raise UserError(f"{self.root}: holds files that are no run of recdistill; choose another --out")
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            write_json(about, mine)
        except OSError as error:
            raise UserError(f"{self.root}: cannot write there: {error.strerror}; choose another --out") from None

    def _compare(self, found: object, mine: object) -> None:
        old, new = _flat(found), _flat(mine)
        free = ("experiment.evaluate.", "experiment.processes")
        changed = sorted(
            key for key in old.keys() | new.keys() if old.get(key) != new.get(key) and not key.startswith(free)
        )
        if changed:
            key = changed[0]
            raise UserError(f"{self.root}: holds another run ({key.removeprefix('experiment.')}: {old.get(key)!r} there, "
                            f"{new.get(key)!r} now); choose another --out or delete it")  # fmt: skip

    def experiment(self) -> Experiment:
        """Return the experiment this folder belongs to; UserError when it holds none."""
        about = self.root / "run.json"
        if not about.exists():
            raise UserError(f"{self.root}: holds no run; start one with: recdistill run CONFIG --out {self.root}")
        return Experiment.model_validate(read_json(about)["experiment"])

    def abandon(self) -> None:
        """Remove a folder in which nothing was ingested."""
        if not self.tables.exists():
            shutil.rmtree(self.root, ignore_errors=True)


def _flat(tree: object, prefix: str = "") -> dict[str, object]:
    if isinstance(tree, dict):
        return {key: value for name, branch in tree.items() for key, value in _flat(branch, f"{prefix}{name}.").items()}
    return {prefix.rstrip("."): tree}

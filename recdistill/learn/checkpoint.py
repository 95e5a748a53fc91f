"""Checkpoints by one atomic rename: weights, optimiser, random state and the place in the log, or nothing at all."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from recdistill.data.columns import read_json, write_json
from recdistill.errors import RecdistillError

__all__ = ["Checkpoint", "Checkpoints"]

KEPT = 2  # the newest and, should its disk block go bad, the one before


@dataclass(frozen=True)
class Checkpoint:
    """tensors: flat name -> tensor; state: JSON values (blocks done, totals, versions consumed)."""

    tensors: dict[str, Tensor]
    state: dict[str, Any]


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


class Checkpoints:
    """The checkpoints of one model, one folder per block of the log; a folder that has its final name is whole."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def blocks(self) -> list[int]:
        """Return the published block numbers, oldest first."""
        return sorted(int(path.name) for path in self.folder.iterdir() if path.name.isdigit())

    def publish(self, block: int, checkpoint: Checkpoint) -> None:
        """Write and fsync everything beside the final name, rename once, then drop what is older than KEPT."""
        final = self.folder / f"{block:08d}"
        if final.exists():
            return
        part = self.folder / f"{final.name}.part"
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir()
        tensors = {name: tensor.detach().contiguous() for name, tensor in checkpoint.tensors.items()}
        save_file(tensors, part / "model.safetensors")
        _sync(part / "model.safetensors")
        write_json(part / "state.json", checkpoint.state)
        _sync(part)
        part.rename(final)
        _sync(self.folder)
        for old in self.blocks()[:-KEPT]:
            shutil.rmtree(self.folder / f"{old:08d}", ignore_errors=True)

    def latest(self) -> tuple[int, Checkpoint] | None:
        """Return (block, checkpoint) of the newest one, None when there is none; RecdistillError when it is damaged."""
        blocks = self.blocks()
        if not blocks:
            return None
        folder = self.folder / f"{blocks[-1]:08d}"
        try:
            return blocks[-1], Checkpoint(load_file(folder / "model.safetensors"), read_json(folder / "state.json"))
        except (SafetensorError, OSError, ValueError) as error:
            raise RecdistillError(
                f"{folder}: damaged checkpoint ({error}); delete it to resume from the one before"
            ) from None

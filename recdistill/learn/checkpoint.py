"""Checkpoints by one atomic rename: weights, optimiser, random state and the place in the log, or nothing at all."""

from __future__ import annotations

import json
import os
import shutil
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from recdistill.data.columns import read_json, write_json
from recdistill.errors import RecdistillError, UserError
from recdistill.killpoints import reach

__all__ = ["Checkpoint", "Checkpoints", "checksum", "sync"]

KEPT = 2  # the newest and, should its disk block go bad, the one before
OWN = "state_checksum"
PIECE = 1 << 20  # bytes held while a checksum is taken


@dataclass(frozen=True)
class Checkpoint:
    """tensors: flat name -> tensor; state: JSON values (blocks done, totals, versions consumed)."""

    tensors: dict[str, Tensor]
    state: dict[str, Any]


def sync(path: Path) -> None:
    """Let a file or folder reach the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def checksum(path: Path) -> int:
    """Return the CRC-32 of a file, read piece by piece."""
    value = 0
    with path.open("rb") as file:
        while piece := file.read(PIECE):
            value = zlib.crc32(piece, value)
    return value


def _of_state(state: dict[str, Any]) -> int:
    """Return the CRC-32 of a state's JSON but for the checksum itself."""
    return zlib.crc32(json.dumps({**json.loads(json.dumps(state)), OWN: None}, sort_keys=True).encode())


def _ladder(blocks: list[int]) -> list[int]:
    """Return the blocks to keep: the newest KEPT, and of each doubling of age, in blocks, the oldest."""
    rungs: dict[int, int] = {}
    for block in reversed(blocks):
        rungs[(blocks[-1] - block).bit_length()] = block
    return sorted({*rungs.values(), *blocks[-KEPT:]})


class Checkpoints:
    """The checkpoints of one model, one folder per block of the log; a folder that has its final name is whole.

    ladder: keep older ones too, ever sparser with their age, to go back to.
    """

    def __init__(self, folder: Path, ladder: bool = False) -> None:
        self.folder, self.ladder = folder, ladder

    def blocks(self) -> list[int]:
        """Return the published block numbers, oldest first."""
        if not self.folder.exists():
            return []
        return sorted(int(path.name) for path in self.folder.iterdir() if path.name.isdigit())

    def publish(self, block: int, checkpoint: Checkpoint) -> None:
        """Write and fsync everything beside the final name, rename once, then drop what is older than KEPT.

        One of the same block can only be damaged (else the run had gone on after it), and is replaced. Whatever fails
        before the rename leaves the older checkpoints as they were, and nothing else.
        """
        final = self.folder / f"{block:08d}"
        part = self.folder / f"{final.name}.part"
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        try:
            self._write(part, checkpoint)
            reach("checkpoint.written")
            shutil.rmtree(final, ignore_errors=True)
            part.rename(final)
        finally:
            shutil.rmtree(part, ignore_errors=True)
        sync(self.folder)
        reach("checkpoint.published")
        blocks = self.blocks()
        for old in set(blocks) - set(_ladder(blocks) if self.ladder else blocks[-KEPT:]):
            self.discard(old)

    def discard(self, block: int) -> None:
        """Remove a checkpoint."""
        shutil.rmtree(self.folder / f"{block:08d}", ignore_errors=True)

    def _write(self, part: Path, checkpoint: Checkpoint) -> None:
        tensors = {name: tensor.detach().contiguous() for name, tensor in checkpoint.tensors.items()}
        weights = part / "model.safetensors"
        try:
            save_file(tensors, weights)
        except SafetensorError as error:
            raise UserError(f"{weights}: cannot write the checkpoint: {error}") from None
        sync(weights)
        state = {"checksum": checksum(weights), **checkpoint.state}
        write_json(part / "state.json", {**state, OWN: _of_state(state)})
        sync(part)

    def newest(self) -> int | None:
        """Return the newest block whose checkpoint is undamaged, None when there is none yet.

        A damaged one costs the block since the one before it. RecdistillError when every one is damaged.
        """
        blocks = self.blocks()
        for block in reversed(blocks):
            if self.whole(block):
                return block
        if blocks:
            raise RecdistillError(f"{self.folder}: every checkpoint is damaged; delete the folder to train this model again")
        return None

    def whole(self, block: int) -> bool:
        """Return whether a checkpoint is undamaged."""
        folder = self.folder / f"{block:08d}"
        try:
            state = read_json(folder / "state.json")
            return bool(state[OWN] == _of_state(state) and state["checksum"] == checksum(folder / "model.safetensors"))
        except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError):
            return False

    def latest(self) -> tuple[int, Checkpoint] | None:
        """Return (block, checkpoint) of the newest undamaged one, None when there is none yet; raises as `newest`."""
        block = self.newest()
        if block is None:
            return None
        return block, self.load(block)

    def state(self, block: int) -> dict[str, Any]:
        """Return the state of a checkpoint, without its tensors."""
        state: dict[str, Any] = read_json(self.folder / f"{block:08d}" / "state.json")
        return state

    def load(self, block: int) -> Checkpoint:
        """Return a checkpoint that is there."""
        folder = self.folder / f"{block:08d}"
        return Checkpoint(load_file(folder / "model.safetensors"), read_json(folder / "state.json"))

"""Checkpoints by one atomic rename: weights, optimiser, random state and the place in the log, or nothing at all.

A process alone writes its tensors into one file; of several ranks each writes its share into a file of its own.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from recdistill.data.columns import read_json, write_json
from recdistill.errors import RecdistillError, UserError
from recdistill.killpoints import reach
from recdistill.learn.shares import Stored, stored
from recdistill.models.ranks import ALONE, Ranks

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


def _files(state: dict[str, Any]) -> dict[str, int]:
    """Return the files of a checkpoint's tensors, in order, with their checksums."""
    shares = {f"share-{rank:05d}.safetensors": value for rank, value in enumerate(state.get("shares", []))}
    return shares or {"model.safetensors": state["checksum"]}


def _ladder(blocks: list[int]) -> list[int]:
    """Return the blocks to keep: the newest KEPT, and of each doubling of age, in blocks, the oldest."""
    rungs: dict[int, int] = {}
    for block in reversed(blocks):
        rungs[(blocks[-1] - block).bit_length()] = block
    return sorted({*rungs.values(), *blocks[-KEPT:]})


class Checkpoints:
    """The checkpoints of one model, one folder per block of the log; a folder that has its final name is whole.

    ladder: keep older ones too, ever sparser with their age, to go back to. ranks: the processes that write it
    together; what publishes or looks for damage is then a call of all of them, which share out the work.
    """

    def __init__(self, folder: Path, ladder: bool = False, ranks: Ranks = ALONE) -> None:
        self.folder, self.ladder, self.ranks = folder, ladder, ranks

    def blocks(self) -> list[int]:
        """Return the published block numbers, oldest first."""
        if not self.folder.exists():
            return []
        return sorted(int(path.name) for path in self.folder.iterdir() if path.name.isdigit())

    def publish(self, block: int, checkpoint: Checkpoint) -> None:
        """Write and fsync everything beside the final name, rename once, then drop what is older than KEPT.

        One of the same block can only be damaged (else the run had gone on after it), and is replaced. Whatever fails
        before the rename leaves the older checkpoints as they were, and nothing else. Of several ranks each writes its
        tensors; the first one writes its state, and renames when all have written.
        """
        final = self.folder / f"{block:08d}"
        part = self._begun(final)
        try:
            checksums = self.ranks.told(self._write(part, checkpoint))
            if self.ranks.first:
                self._say(part, checksums, checkpoint.state)
                reach("checkpoint.written")
                shutil.rmtree(final, ignore_errors=True)
                part.rename(final)
        finally:
            if self.ranks.first:
                shutil.rmtree(part, ignore_errors=True)
        if self.ranks.first:
            self._published()
        self.ranks.wait()

    def _begun(self, final: Path) -> Path:
        """Return the new folder that all write to; its name is like no other's, should a rank of a job that
        died still write.
        """
        mark = f".{self.ranks.told(secrets.randbits(31))[0]:08x}" if self.ranks.size > 1 else ""
        part = self.folder / f"{final.name}{mark}.part"
        if self.ranks.first:
            shutil.rmtree(part, ignore_errors=True)
            part.mkdir(parents=True)
        self.ranks.wait()
        return part

    def _published(self) -> None:
        sync(self.folder)
        reach("checkpoint.published")
        blocks = self.blocks()
        for old in set(blocks) - set(_ladder(blocks) if self.ladder else blocks[-KEPT:]):
            self.discard(old)

    def clear(self) -> None:
        """Remove what a process that died left of checkpoints it had not published."""
        for part in self.folder.glob("*.part"):
            shutil.rmtree(part, ignore_errors=True)

    def discard(self, block: int) -> None:
        """Remove a checkpoint."""
        shutil.rmtree(self.folder / f"{block:08d}", ignore_errors=True)

    def _write(self, part: Path, checkpoint: Checkpoint) -> int:
        """Write this process's tensors; return the file's checksum."""
        tensors = {name: tensor.detach().contiguous() for name, tensor in checkpoint.tensors.items()}
        weights = part / ("model.safetensors" if self.ranks.size == 1 else f"share-{self.ranks.rank:05d}.safetensors")
        try:
            save_file(tensors, weights)
        except SafetensorError as error:
            raise UserError(f"{weights}: cannot write the checkpoint: {error}") from None
        reach("checkpoint.share")
        sync(weights)
        return checksum(weights)

    def _say(self, part: Path, checksums: list[int], state: dict[str, Any]) -> None:
        sums = {"checksum": checksums[0]} if self.ranks.size == 1 else {"shares": checksums}
        state = {**sums, **state}
        write_json(part / "state.json", {**state, OWN: _of_state(state)})
        sync(part)

    def newest(self) -> int | None:
        """Return the newest block whose checkpoint is undamaged, None when there is none yet.

        A damaged one costs the block since the one before it. RecdistillError when every one is damaged.
        """
        blocks = found = self.blocks()
        while (block := self.ranks.told(blocks[-1] if blocks else -1)[0]) >= 0:
            if self.whole(block):
                return block
            blocks = [other for other in blocks if other < block]
        if found:
            raise RecdistillError(
                f"{self.folder}: every checkpoint is damaged; delete the folder to train this model again"
            )
        return None

    def whole(self, block: int) -> bool:
        """Return whether a checkpoint is undamaged."""
        return all(self.ranks.told(int(self._undamaged(block))))

    def _undamaged(self, block: int) -> bool:
        """Return whether the state is, and this rank's part of the files."""
        folder = self.folder / f"{block:08d}"
        try:
            state = read_json(folder / "state.json")
            files = list(_files(state).items())[self.ranks.rank :: self.ranks.size]
            return bool(
                state[OWN] == _of_state(state) and all(value == checksum(folder / name) for name, value in files)
            )
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

    def whole_state(self, block: int) -> dict[str, Any]:
        """Return the state of a checkpoint, empty where it is damaged or gone; none of its tensors is read."""
        try:
            state = self.state(block)
            return state if state[OWN] == _of_state(state) else {}
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return {}

    def stored(self, block: int) -> dict[str, Stored]:
        """Return the tensors of a checkpoint that is there, whoever wrote it; they are read when they are asked for."""
        folder = self.folder / f"{block:08d}"
        return stored([folder / name for name in _files(self.state(block))])

    def load(self, block: int) -> Checkpoint:
        """Return a checkpoint that is there, whole."""
        return Checkpoint({name: tensor[...] for name, tensor in self.stored(block).items()}, self.state(block))

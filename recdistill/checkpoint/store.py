"""Checkpoints by one atomic rename: weights, optimiser, random state and the place in the log, or nothing at all.

MODEL/00000012/model.safetensors             the tensors, written by a process alone
               share-00000.safetensors ...   or, of several ranks, each one's share
               state.json                    everything else, and the checksums of these files
"""

from __future__ import annotations

import json
import secrets
import shutil
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from recdistill.checkpoint import remote
from recdistill.checkpoint.remote import STATE, checksum
from recdistill.checkpoint.sharded_tensors import Stored, stored
from recdistill.data.store.memmap import read_json, sync, write_json
from recdistill.distributed.ranks import ALONE, Ranks
from recdistill.errors import RecdistillError, UserError
from recdistill.storage.location import Location
from recdistill.testing.killpoints import reach

__all__ = ["MIN_KEPT", "Checkpoint", "Checkpoints", "checksum"]

MIN_KEPT = 2  # the newest and, should its disk block go bad, the one before
STATE_CHECKSUM = "state_checksum"
WEIGHTS = "model.safetensors"


@dataclass(frozen=True)
class Checkpoint:
    """tensors: flat name -> tensor; state: JSON values (blocks done, totals, versions consumed)."""

    tensors: dict[str, Tensor]
    state: dict[str, Any]


def _of_state(state: dict[str, Any]) -> int:
    """Return the CRC-32 of a state's JSON but for the checksum itself."""
    return zlib.crc32(json.dumps({**json.loads(json.dumps(state)), STATE_CHECKSUM: None}, sort_keys=True).encode())


def _files(state: dict[str, Any]) -> dict[str, int]:
    """Return the files of a checkpoint's tensors, in order, with their checksums."""
    shares = {_share(rank): value for rank, value in enumerate(state.get("shares", []))}
    return shares or {WEIGHTS: state["checksum"]}


def _share(rank: int) -> str:
    return f"share-{rank:05d}.safetensors"


def _sparse(blocks: list[int]) -> list[int]:
    """Return the blocks to keep: the newest MIN_KEPT, and of each doubling of age, in blocks, the oldest."""
    by_age: dict[int, int] = {}
    for block in reversed(blocks):
        by_age[(blocks[-1] - block).bit_length()] = block
    return sorted({*by_age.values(), *blocks[-MIN_KEPT:]})


class Checkpoints:
    """The checkpoints of one model, one folder per block of the log; a folder that has its final name is whole.

    keep_sparse: keep older ones too, ever sparser with their age, to go back to. keep: blocks that are kept for ever,
    as others begin from them. ranks: the processes that write it together; what publishes or looks for damage is then a
    call of all of them, which share out the work.
    """

    def __init__(
        self, folder: Location, keep_sparse: bool = False, ranks: Ranks = ALONE, keep: frozenset[int] = frozenset()
    ) -> None:
        self.folder, self.keep_sparse, self.ranks, self.keep = folder, keep_sparse, ranks, keep
        self._local = folder if isinstance(folder, Path) else folder.local

    def path(self, block: int) -> Location:
        """Return the folder of a block's checkpoint, whether there is one or not."""
        return self.folder / f"{block:08d}"

    def published_at(self, block: int) -> float:
        """Return when a checkpoint was written, in epoch seconds; FileNotFoundError where it is not there any more."""
        return (self.path(block) / STATE).stat().st_mtime

    def blocks(self) -> list[int]:
        """Return the published block numbers, oldest first."""
        if not isinstance(self.folder, Path):
            return remote.published(self.folder)
        if not self.folder.exists():
            return []
        return sorted(int(path.name) for path in self.folder.iterdir() if path.name.isdigit())

    def publish(self, block: int, checkpoint: Checkpoint) -> None:
        """Write and fsync everything next to the final name, rename once, then drop the older ones that are not kept.

        One of the same block can only be damaged (else the run had gone on after it), and is replaced. Whatever fails
        before the rename leaves the older checkpoints as they were, and nothing else. Of several ranks each writes its
        tensors; the first one writes its state, and renames when all have written.
        """
        final = self.path(block)
        part = self._begun(final)
        try:
            checksums = self.ranks.gather(self._write(part, checkpoint))
            if self.ranks.first:
                self._write_state(part, checksums, checkpoint.state)
                reach("checkpoint.written")
                self._put(part, final)
        finally:
            if self.ranks.first:
                shutil.rmtree(part, ignore_errors=True)
        if self.ranks.first:
            self._published()
        self.ranks.wait()

    def _put(self, part: Path, final: Location) -> None:
        if isinstance(final, Path):
            shutil.rmtree(final, ignore_errors=True)
            part.rename(final)
        else:
            remote.publish(part, final)

    def _begun(self, final: Location) -> Path:
        """Return the new folder that all write to; its name is like no other's, should a rank of a job that
        died still write.
        """
        mark = f".{self.ranks.gather(secrets.randbits(31))[0]:08x}" if self.ranks.size > 1 else ""
        part = self._local / f"{final.name}{mark}.part"
        if self.ranks.first:
            shutil.rmtree(part, ignore_errors=True)
            part.mkdir(parents=True)
        self.ranks.wait()
        return part

    def _published(self) -> None:
        sync(self._local)
        reach("checkpoint.published")
        blocks = self.blocks()
        for old in set(blocks) - self.keep - set(_sparse(blocks) if self.keep_sparse else blocks[-MIN_KEPT:]):
            self.discard(old)

    def clear(self) -> None:
        """Remove what a process that died left of checkpoints it had not published."""
        for part in self._local.glob("*.part"):
            shutil.rmtree(part, ignore_errors=True)
        if not isinstance(self.folder, Path):
            remote.clear(self.folder)

    def discard(self, block: int) -> None:
        """Remove a checkpoint."""
        path = self.path(block)
        if isinstance(path, Path):
            shutil.rmtree(path, ignore_errors=True)
        else:
            remote.discard(path)

    def _write(self, part: Path, checkpoint: Checkpoint) -> int:
        """Write this process's tensors; return the file's checksum."""
        tensors = {name: tensor.detach().contiguous() for name, tensor in checkpoint.tensors.items()}
        weights = part / (WEIGHTS if self.ranks.size == 1 else _share(self.ranks.rank))
        try:
            save_file(tensors, weights)
        except SafetensorError as error:
            raise UserError(f"{weights}: cannot write the checkpoint: {error}") from None
        reach("checkpoint.share")
        sync(weights)
        return checksum(weights)

    def _write_state(self, part: Path, checksums: list[int], state: dict[str, Any]) -> None:
        sums = {"checksum": checksums[0]} if self.ranks.size == 1 else {"shares": checksums}
        state = {**sums, **state}
        write_json(part / STATE, {**state, STATE_CHECKSUM: _of_state(state)})
        sync(part)

    def newest(self) -> int | None:
        """Return the newest block whose checkpoint is undamaged, None when there is none yet.

        A damaged one costs the block since the one before it. RecdistillError when every one is damaged.
        """
        blocks = found = self.blocks()
        while (block := self.ranks.gather(blocks[-1] if blocks else -1)[0]) >= 0:
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
        return all(self.ranks.gather(int(self._undamaged(block))))

    def _undamaged(self, block: int) -> bool:
        """Return whether the state is, and this rank's part of the files."""
        try:
            state = self.state(block)
            files = list(_files(state).items())[self.ranks.rank :: self.ranks.size]
            return bool(
                state[STATE_CHECKSUM] == _of_state(state)
                and all(value == checksum(self._file(block, name, value)) for name, value in files)
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
        state: dict[str, Any] = read_json(self.path(block) / STATE)
        return state

    def whole_state(self, block: int) -> dict[str, Any]:
        """Return the state of a checkpoint, empty where it is damaged or gone; none of its tensors is read."""
        try:
            state = self.state(block)
            return state if state[STATE_CHECKSUM] == _of_state(state) else {}
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return {}

    def stored(self, block: int) -> dict[str, Stored]:
        """Return the tensors of a checkpoint that is there, whoever wrote it; they are read when they are asked for."""
        return stored([self._file(block, name, value) for name, value in _files(self.state(block)).items()])

    def _file(self, block: int, name: str, value: int) -> Path:
        """Return the local file of a checkpoint. value: the checksum that it should have."""
        path = self.path(block)
        return path / name if isinstance(path, Path) else remote.brought(path, name, value)

    def load(self, block: int) -> Checkpoint:
        """Return a checkpoint that is there, whole."""
        return Checkpoint({name: tensor[...] for name, tensor in self.stored(block).items()}, self.state(block))

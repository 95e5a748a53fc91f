"""Shares of several ranks are one checkpoint: whole, or any rows of it, and damaged where one of them is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Barrier, Thread

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from recdistill.checkpoint.sharded_tensors import stored
from recdistill.checkpoint.store import Checkpoint, Checkpoints
from recdistill.distributed.ranks import Ranks
from recdistill.errors import RecdistillError
from recdistill.models.embeddings.growable import GrowableTable
from recdistill.models.embeddings.sharded import ShardedTable
from tests.checkpoint.test_store import flip, names
from tests.support.runs import same_bits


@settings(max_examples=60, deadline=None)
@given(rows=st.integers(0, 9), ranks=st.integers(1, 5), low=st.integers(0, 9), high=st.integers(0, 9))
def test_rows_upon_rows_are_the_tensor(rows: int, ranks: int, low: int, high: int) -> None:
    whole = torch.arange(2 * rows, dtype=torch.float32).view(rows, 2)
    parts = [whole[Ranks(rank, ranks).chunk(rows)].clone() for rank in range(ranks)]
    for part, same in zip(parts, torch.chunk(whole, ranks), strict=False):
        assert torch.equal(part, same)  # as torch shares out, whose FSDP2 does it
    with TemporaryDirectory() as folder:
        paths = [Path(folder) / str(rank) for rank in range(ranks)]
        for path, part in zip(paths, parts, strict=True):
            save_file({"w": part} | ({"once": torch.tensor(7.0)} if path == paths[0] else {}), path)
        found = stored(paths)
        assert found["w"].shape == whole.shape and torch.equal(found["w"][...], whole)
        assert torch.equal(found["w"][low:high], whole[low:high])
        assert found["once"].shape == () and found["once"][...] == 7


def table(ranks: Ranks) -> GrowableTable:
    made = GrowableTable(2, seed=0, name="item", std=0.1)
    return made if ranks.size == 1 else ShardedTable(made, ranks)


@settings(max_examples=40, deadline=None)
@given(rows=st.sets(st.integers(1, 40), max_size=12), before=st.integers(1, 4), after=st.integers(1, 4))
def test_a_table_goes_on_with_any_number_of_ranks(rows: set[int], before: int, after: int) -> None:
    """What ranks keep of one table's state, given to another number of ranks, is that table's state again."""
    one = table(Ranks())
    touched = torch.tensor([0, *sorted(rows)])
    one(touched).sum().backward()
    one.step()

    def together(states: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
        return {name: torch.cat([state[name] for state in states]) for name in states[0]}

    found = one.state()
    for size in (before, after, 1):
        parts = [table(Ranks(rank, size)) for rank in range(size)]
        for part in parts:
            part.load_state(found)
        found = together([part.state() for part in parts])
    assert same_bits(found, one.state())


@dataclass(frozen=True)
class Threads(Ranks):
    """Ranks that are threads of this process."""

    board: tuple[list[int], Barrier] = ([], Barrier(1))

    def gather(self, mine: int) -> list[int]:
        numbers, barrier = self.board
        numbers[self.rank] = mine
        barrier.wait(120)
        found = list(numbers)
        barrier.wait(120)
        return found

    def wait(self) -> None:
        self.board[1].wait(120)


def by_ranks(folder: Path, size: int, do: object) -> list[object]:
    """Return what `do` (checkpoints, rank) returns on every rank."""
    board, found = ([0] * size, Barrier(size)), [None] * size

    def run(rank: int) -> None:
        found[rank] = do(Checkpoints(folder, ranks=Threads(rank, size, board=board)), rank)  # type: ignore[operator]

    threads = [Thread(target=run, args=(rank,)) for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def published(folder: Path, block: int, size: int = 3) -> None:
    def publish(checkpoints: Checkpoints, rank: int) -> None:
        checkpoints.publish(block, Checkpoint({"w": torch.full((2, 2), 10.0 * block + rank)}, {"block": block}))

    by_ranks(folder, size, publish)


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: flip(path / "share-00001.safetensors"),
        lambda path: (path / "share-00002.safetensors").unlink(),
        lambda path: (path / "state.json").write_text(
            (path / "state.json").read_text().replace('"shares": [', '"shares": [1, ')
        ),
    ],
)
def test_a_damaged_or_missing_share_is_passed_over_by_all(tmp_path: Path, damage: object) -> None:
    for block in range(3):
        published(tmp_path, block)
    assert names(tmp_path) == ["00000001", "00000002"]
    found = Checkpoints(tmp_path).latest()
    assert found and found[0] == 2 and found[1].tensors["w"][:, 0].tolist() == [20, 20, 21, 21, 22, 22]
    damage(tmp_path / "00000002")  # type: ignore[operator]
    assert by_ranks(tmp_path, 2, lambda checkpoints, rank: checkpoints.newest()) == [1, 1]
    assert Checkpoints(tmp_path).newest() == 1
    damage(tmp_path / "00000001")  # type: ignore[operator]
    with pytest.raises(RecdistillError, match="every checkpoint is damaged"):
        Checkpoints(tmp_path).newest()


def test_what_was_left_half_written_is_no_checkpoint_and_is_cleared(tmp_path: Path) -> None:
    published(tmp_path, 0)
    (tmp_path / "00000001.1234abcd.part").mkdir()
    assert Checkpoints(tmp_path).newest() == 0
    Checkpoints(tmp_path).clear()
    assert names(tmp_path) == ["00000000"]

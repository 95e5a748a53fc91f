"""A checkpoint is there whole or not at all; a damaged one is passed over; nothing is left of one that failed."""

from __future__ import annotations

import errno
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from recdistill.checkpoint.store import Checkpoint, Checkpoints
from recdistill.errors import RecdistillError
from tests.support.runs import finish, ingested, same_bits, tiny, trainer


def of(value: float) -> Checkpoint:
    """Return a checkpoint filled with a value."""
    return Checkpoint({"a": torch.full((100,), value), "empty": torch.zeros(0, 3)}, {"block": int(value)})


def names(folder: Path) -> list[str]:
    """Return what lies in a folder."""
    return sorted(path.name for path in folder.iterdir())


def flip(path: Path) -> None:
    """Flip one bit in the middle."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_the_newest_two_are_kept_and_come_back_bit_for_bit(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path / "model")
    assert checkpoints.newest() is None and checkpoints.latest() is None and not (tmp_path / "model").exists()
    for block in range(4):
        checkpoints.publish(block, of(block))
    assert names(tmp_path / "model") == ["00000002", "00000003"] and checkpoints.newest() == 3
    found = checkpoints.latest()
    assert found and found[0] == 3 and same_bits(found[1].tensors, of(3).tensors) and found[1].state["block"] == 3


def test_what_others_begin_from_is_kept(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, keep=frozenset({1}))
    for block in range(5):
        checkpoints.publish(block, of(block))
    assert names(tmp_path) == ["00000001", "00000003", "00000004"] and checkpoints.newest() == 4


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: flip(path / "model.safetensors"),
        lambda path: (path / "model.safetensors").write_bytes((path / "model.safetensors").read_bytes()[:-1]),
        lambda path: (path / "model.safetensors").unlink(),
        lambda path: (path / "state.json").write_text("{"),
        lambda path: (path / "state.json").unlink(),
    ],
)
def test_a_damaged_one_is_passed_over_and_replaced(tmp_path: Path, damage: object) -> None:
    checkpoints = Checkpoints(tmp_path)
    checkpoints.publish(0, of(0))
    checkpoints.publish(1, of(1))
    damage(tmp_path / "00000001")  # type: ignore[operator]
    found = checkpoints.latest()
    assert found and found[0] == 0 and same_bits(found[1].tensors, of(0).tensors)
    checkpoints.publish(1, of(1))
    assert checkpoints.newest() == 1
    for block in (0, 1):
        damage(tmp_path / f"{block:08d}")  # type: ignore[operator]
    with pytest.raises(RecdistillError, match="every checkpoint is damaged; delete the folder"):
        checkpoints.newest()


@contextmanager
def smallest_files() -> Iterator[None]:
    """Let no file grow beyond 300 bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_weights_that_cannot_be_written_leave_the_older_ones(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    checkpoints.publish(0, of(0))
    with smallest_files(), pytest.raises(RecdistillError, match="cannot write the checkpoint.*File too large"):
        checkpoints.publish(1, of(1))
    assert names(tmp_path) == ["00000000"] and checkpoints.newest() == 0


def test_a_full_disk_leaves_the_older_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoints = Checkpoints(tmp_path)
    checkpoints.publish(0, of(0))
    real = Path.mkdir

    def with_full_device(self: Path, *args: object, **named: object) -> None:
        real(self, *args, **named)  # type: ignore[arg-type]
        (self / "state.json.part").symlink_to("/dev/full")  # a device on which every write fails as on a full disk

    monkeypatch.setattr(Path, "mkdir", with_full_device)
    with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
        checkpoints.publish(1, of(1))
    assert names(tmp_path) == ["00000000"] and checkpoints.newest() == 0


def test_a_run_goes_on_from_the_one_before_a_damaged_one(tmp_path: Path) -> None:
    experiment = tiny()
    finish(tmp_path, experiment, "teacher")
    want = Checkpoints(tmp_path / "models" / "teacher").latest()
    weights = {name: value.clone() for name, value in want[1].tensors.items()} if want else {}  # not a view of the file
    flip(tmp_path / "models" / "teacher" / "00000003" / "model.safetensors")
    ingested(tmp_path, experiment)
    assert len(list(trainer(tmp_path, experiment, "teacher").run_to_end())) > 0
    got = Checkpoints(tmp_path / "models" / "teacher").latest()
    assert want and got and got[0] == want[0] and same_bits(got[1].tensors, weights)


def test_a_state_that_was_changed_is_damaged(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    for block in (1, 2):
        checkpoints.publish(block, Checkpoint({"w": torch.ones(3)}, {"rows": block, "share": 0.1}))
    assert checkpoints.newest() == 2
    path = tmp_path / "00000002" / "state.json"
    path.write_text(path.read_text().replace('"rows": 2', '"rows": 3'))
    assert not checkpoints.whole(2) and checkpoints.newest() == 1

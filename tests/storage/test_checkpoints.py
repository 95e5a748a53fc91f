"""Checkpoints in an object store: visible by their state, which is put last; copies on a machine may be lost."""

from __future__ import annotations

import shutil

import torch

from recdistill.checkpoint.store import Checkpoint, Checkpoints
from recdistill.storage.location import names
from recdistill.storage.objects import ObjectPath


def of(value: float) -> Checkpoint:
    return Checkpoint({"a": torch.full((1000,), value), "empty": torch.zeros(0, 3)}, {"block": int(value)})


def test_the_newest_two_are_kept_and_come_back_on_another_machine(bucket: ObjectPath) -> None:
    checkpoints = Checkpoints(bucket / "model")
    assert checkpoints.newest() is None and checkpoints.latest() is None
    for block in range(4):
        checkpoints.publish(block, of(block))
    assert names(bucket / "model") == {"00000002", "00000003"} and checkpoints.blocks() == [2, 3]
    shutil.rmtree(bucket.local)
    found = Checkpoints(bucket / "model").latest()
    assert found and found[0] == 3 and found[1].state["block"] == 3
    assert torch.equal(found[1].tensors["a"], of(3).tensors["a"]) and found[1].tensors["empty"].shape == (0, 3)


def test_one_without_a_state_is_none_and_is_cleared(bucket: ObjectPath) -> None:
    checkpoints = Checkpoints(bucket / "model")
    for block in range(2):
        checkpoints.publish(block, of(block))
    (bucket / "model" / "00000001" / "state.json").unlink()
    assert checkpoints.blocks() == [0] and checkpoints.newest() == 0
    checkpoints.clear()
    assert names(bucket / "model") == {"00000000"}


def test_a_damaged_object_costs_the_block_since_the_one_before(bucket: ObjectPath) -> None:
    checkpoints = Checkpoints(bucket / "model")
    for block in range(2):
        checkpoints.publish(block, of(block))
    path = bucket / "model" / "00000001" / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))
    shutil.rmtree(bucket.local)
    assert Checkpoints(bucket / "model").newest() == 0


def test_a_damaged_copy_is_brought_again(bucket: ObjectPath) -> None:
    checkpoints = Checkpoints(bucket / "model")
    checkpoints.publish(0, of(7))
    (bucket.local / "model" / "00000000" / "model.safetensors").write_bytes(b"no tensors")
    assert torch.equal(checkpoints.load(0).tensors["a"], of(7).tensors["a"])

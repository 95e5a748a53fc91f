from __future__ import annotations

import pytest
import torch

from recdistill.models.layers.recorder import Recorder


def test_the_asked_block_is_kept_once_without_gradient() -> None:
    recorder = Recorder()
    recorder.keep(1, torch.zeros(2))
    with pytest.raises(ValueError, match="no pass was recorded"):
        recorder.taken()
    recorder.block = 2
    for block in (1, 2, 3):
        recorder.keep(block, torch.full((2,), float(block), requires_grad=True))
    state = recorder.taken()
    assert state.tolist() == [2.0, 2.0] and not state.requires_grad
    with pytest.raises(ValueError, match="no pass was recorded"):
        recorder.taken()

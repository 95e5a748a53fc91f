"""Which device a configuration means, and that one that is not there is refused."""

from __future__ import annotations

import pytest
import torch

from recdistill.errors import UserError
from recdistill.models.layers.device import device_of


def machine(patch: pytest.MonkeyPatch, devices: int, rank: str) -> None:
    """Let torch find so many CUDA devices, in the process `rank` of its machine."""
    patch.setattr(torch.cuda, "is_available", lambda: devices > 0)
    patch.setattr(torch.cuda, "device_count", lambda: devices)
    patch.setenv("LOCAL_RANK", rank)


def test_auto_takes_cuda_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch, 0, "0")
    assert device_of("auto") == torch.device("cpu")
    machine(monkeypatch, 2, "1")
    assert device_of("auto") == device_of("cuda") == torch.device("cuda", 1)
    assert device_of("cpu") == torch.device("cpu")


@pytest.mark.parametrize(
    ("devices", "rank", "message"), [(0, "0", "no CUDA device"), (2, "2", "process 2"), (2, "x", "process x")]
)
def test_a_device_that_is_not_there_is_refused(
    monkeypatch: pytest.MonkeyPatch, devices: int, rank: str, message: str
) -> None:
    machine(monkeypatch, devices, rank)
    with pytest.raises(UserError, match=message):
        device_of("cuda")

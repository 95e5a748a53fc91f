"""A stream of copies to a device that there is not: what it copies arrives when somebody waits for it, and not before,
so that whoever reads it earlier reads something else.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from tests.support.pretended_device import Elsewhere, another_device

__all__ = ["Streams", "streams"]

COPY = torch.ops.aten._to_copy.default
NOT_YET = -7  # which indexes nothing


class Event:
    """What a stream had been given when the event was recorded."""

    def __init__(self, copies: list[tuple[Tensor, Tensor]]) -> None:
        self.copies = copies


class Streams(TorchDispatchMode):
    """All streams of the device: the one that computes, `current_stream`, and the one that copies, `Stream`. kept: the
    tensors whose memory is kept for what is computed; copied: how many were copied by the stream; waits: for how many
    events the one that computes waited.
    """

    def __init__(self) -> None:
        super().__init__()
        self.copying, self.late, self.kept, self.copied, self.waits = False, list[tuple[Tensor, Tensor]](), [], 0, 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        if self.copying and func is COPY and isinstance(found, Elsewhere):
            self.late.append((found.held, found.held.clone()))
            found.held.fill_(NOT_YET)
            self.copied += 1
        return found

    def Stream(self, _device: torch.device) -> Streams:
        """Return the stream of copies."""
        return self

    def current_stream(self, _device: torch.device) -> Streams:
        """Return the stream that computes."""
        return self

    @contextmanager
    def stream(self, _one: Streams) -> Iterator[None]:
        """Copy by the stream of copies inside the block, in any thread, each of which has to be given the device."""
        self.copying = True
        try:
            with another_device(), self:
                yield
        finally:
            self.copying = False

    def record_event(self) -> Event:
        """Return an event after all that was copied so far."""
        return Event(list(self.late))

    def wait_event(self, event: Event) -> None:
        """Let what is behind an event arrive."""
        for held, value in event.copies:
            held.copy_(value)
        self.waits += 1


@contextmanager
def streams(patch: pytest.MonkeyPatch) -> Iterator[tuple[torch.device, Streams]]:
    """Provide the device and its streams inside the block, where torch.cuda gives them."""
    found = Streams()
    for name in ("Stream", "current_stream", "stream"):
        patch.setattr(torch.cuda, name, getattr(found, name))
    patch.setattr(Elsewhere, "record_stream", lambda tensor, _stream: found.kept.append(tensor), raising=False)
    with another_device() as device:
        yield device, found

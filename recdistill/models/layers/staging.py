"""The batches of the next steps on their way to a CUDA device while a step computes: through pinned memory, on a stream
of their own. The stream that computes waits for a batch's copies, and the host for nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace

import torch
from torch import Tensor

from recdistill.data.batch.batch import Batch, History
from recdistill.data.batch.moved import moved
from recdistill.models.attention.request_layout import WithLayout, lay_out

__all__ = ["Sent", "Stage", "stage_for"]


@dataclass(frozen=True)
class Sent:
    """Batches that were sent ahead. batches: each with what a network reads of it on the device, `there`; ids: of every
    column, int64 [U], on the host and there; copied: when all of that has arrived.
    """

    batches: Sequence[Batch]
    ids: Sequence[tuple[Tensor, Tensor]]
    copied: torch.cuda.Event


class Stage:
    """The stream of copies to a device, for the thread that prepares batches and the one that learns from them."""

    def __init__(self, device: torch.device) -> None:
        self.device, self.stream = device, torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def send(self, batches: Sequence[Batch]) -> Sent:
        """Return batches whose copies are under way; a call of any thread."""
        with torch.cuda.stream(self.stream):
            sent = [replace(batch, there=_laid_out(batch, self.device)) for batch in batches]
            ids = [(unique, moved(unique, self.device)) for batch in batches for unique in batch.columns()]
            return Sent(sent, ids, self.stream.record_event())

    def wait(self, sent: Sent) -> None:
        """Let what is computed from now on, in this thread's stream, wait for these batches; and the memory that they
        take, which is the other stream's, for what is computed with them.
        """
        now = torch.cuda.current_stream(self.device)
        now.wait_event(sent.copied)
        for tensor in _tensors([[batch.there for batch in sent.batches], [there for _, there in sent.ids]]):
            if tensor.device == self.device:
                tensor.record_stream(now)


def stage_for(device: torch.device) -> Stage | None:
    """Return what sends batches ahead to a device; None for the CPU, which reads them where they are."""
    return Stage(device) if device.type == "cuda" else None


def _laid_out(batch: Batch, device: torch.device) -> Batch:
    """Return a batch on a device, with its histories laid out there."""
    history, *sequences = (_with_layout(one, device) for one in (batch.history, *batch.sequences))
    return replace(batch.to(device), history=history, sequences=tuple(sequences))


def _with_layout(history: History, device: torch.device) -> WithLayout:
    parts = {part.name: getattr(history, part.name) for part in fields(History)}
    return WithLayout(**parts, layout=lay_out(history).to(device))


def _tensors(value: object) -> Iterator[Tensor]:
    """Yield every tensor inside."""
    if isinstance(value, Tensor):
        yield value
    elif is_dataclass(value):
        yield from _tensors([getattr(value, part.name) for part in fields(value)])
    elif isinstance(value, dict | list | tuple):
        for one in value.values() if isinstance(value, dict) else value:
            yield from _tensors(one)

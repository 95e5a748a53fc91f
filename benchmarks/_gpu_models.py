"""Training steps of our models on batches that are drawn on the host and sent ahead to the device by a second thread,
as in a run: rows per second, share of the peak (MFU), and where the time of a step goes.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import torch
from _attention_gpu import now
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from recdistill.data.batch.ages import SECOND
from recdistill.data.batch.batch import Batch, Lookup
from recdistill.data.batch.numbers import NUMBERS
from recdistill.distributed.ranks import ALONE
from recdistill.models.attention.request_layout import LaidOut, Layout
from recdistill.models.backbones.sequence import SequenceBackbone
from recdistill.models.embeddings.cached import CachedTable
from recdistill.models.embeddings.growable import TableOptions, replace_tables
from recdistill.models.embeddings.lookups import Lookups
from recdistill.models.embeddings.on_device import DeviceTable
from recdistill.models.factory import BACKBONES, table_modules
from recdistill.models.flops import cost_of
from recdistill.models.heads import Towers
from recdistill.models.layers.device import place
from recdistill.models.layers.staging import Sent, stage_for

__all__ = ["Case", "measured"]

FIELDS, BATCHES = 8, 4
WARM, SPLIT = BATCHES + 1, 3  # steps before the clock starts, and steps whose parts are timed one by one
PARTS = ("gather", "dense", "update")  # of a step whose batch has arrived


@dataclass(frozen=True)
class Case:
    """A model and its step: `histories` of `history` events, each with so many `candidates`, over `ids` items; tables:
    whose memory has the embedding rows, host, device, or cached: the host's, an eighth of which lies there too.
    """

    kind: str
    width: int
    history: int
    histories: int
    candidates: int = 1
    ids: int = 1_000_000
    tables: str = "host"
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Return the model, and where its rows lie."""
        where = {"host": "", "device": ", rows on the device", "cached": ", an eighth of the rows on the device"}
        return self.kind + where[self.tables]

    @property
    def rows(self) -> int:
        """Return the rows of a step."""
        return self.histories * self.candidates


def backbone_of(case: Case) -> nn.Module:
    """Return the network; its options are not checked, for which pydantic would be needed."""
    network = BACKBONES[case.kind]
    shape = {"width": case.width, "fields": FIELDS, "slots": 0, "actions": 1, "length": case.history}
    named = inspect.signature(network).parameters
    return network(
        **{name: size for name, size in shape.items() if name in named}, tables=TableOptions(), **case.options
    )


def flops_of(case: Case) -> int:
    """Return the floating point operations of a step, those of its products."""
    with torch.device("meta"):
        backbone = backbone_of(case)
    if not isinstance(backbone, SequenceBackbone):
        backbone = backbone_of(case)
    return case.histories * cost_of(backbone, case.history, case.candidates).step_flops


def looked_up(ids: Tensor) -> Lookup:
    """Return a column of ids from 1 on, any shape, each distinct one once."""
    unique, inverse = torch.unique(ids, return_inverse=True)
    return Lookup(torch.cat([unique.new_zeros(1), unique]), inverse + 1)


def batch_of(case: Case, seed: int) -> Batch:
    """Return a batch whose labels depend on the item, so that there is something to learn."""
    draw = torch.Generator().manual_seed(seed)
    rows, shape = case.rows, (case.histories, case.history)

    def ids(*size: int) -> Tensor:
        """Items, the more often the lower their number."""
        share = torch.rand(size, generator=draw)
        return (share**3 * case.ids).long() + 1

    items, events = ids(rows), looked_up(ids(*shape))
    of = torch.arange(rows) // case.candidates
    ago = torch.arange(case.history, 0, -1).mul(60 * SECOND).expand(shape).contiguous()
    ones, zeros = (torch.full(shape, value) for value in (True, 0))
    lengths = torch.full((case.histories,), case.history)
    layout = Layout(events.inverse, ago, zeros, ones, lengths, of, case.candidates, None, None, None)
    offsets = case.history * torch.arange(case.histories + 1)
    history = LaidOut(events.unique, events.inverse.flatten(), ago.flatten(), zeros.flatten(), offsets, of, layout)
    numbers = torch.zeros(rows, NUMBERS)
    empty = Lookup(torch.zeros(1, dtype=torch.int64), torch.zeros(rows, 0, dtype=torch.int64))
    labels = (items % 3 == 0).float()[:, None]
    columns = looked_up(items), looked_up(of + 1), looked_up(ids(rows, FIELDS)), empty
    return Batch(torch.arange(rows), *columns, history, numbers, labels, torch.full_like(labels, torch.nan))


class Steps:
    """A network and its optimiser, which learn batch after batch; `seconds` by part, where the parts are timed; waits:
    events before and after each wait for a batch's copies, of a GPU.
    """

    def __init__(self, case: Case, device: str) -> None:
        torch.manual_seed(0)
        self.network, self.device = Towers(backbone_of(case), 1), device
        self.home = torch.device(device, 0) if device == "cuda" else torch.device(device)
        place(self.network, self.home)
        if case.tables == "device":
            replace_tables(self.network, lambda table: DeviceTable(table, self.home))
        if case.tables == "cached":
            replace_tables(self.network, lambda table: CachedTable(table, self.home, case.ids // 8))
        self.tables = table_modules(self.network)
        self.lookups, self.stage = Lookups(self.tables, ALONE), stage_for(self.home)
        self.optimiser = torch.optim.Adam(self.network.parameters(), lr=1e-3, fused=True)
        self.batches = [batch_of(case, seed) for seed in range(BATCHES)]
        self.seconds, self.waits = dict.fromkeys(PARTS, 0.0), list[tuple[torch.cuda.Event, torch.cuda.Event]]()

    def sent(self, number: int) -> Sent | Batch:
        """Return a batch on its way to a GPU; elsewhere the batch."""
        batch = self.batches[number % BATCHES]
        return batch if self.stage is None else self.stage.send([batch])

    def arrived(self, sent: Sent | Batch) -> Batch:
        """Return a batch, for whose copies what is computed from now on waits."""
        if self.stage is None or isinstance(sent, Batch):
            return sent
        before, after = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        before.record()
        self.stage.wait(sent)
        after.record()
        self.waits.append((before, after))
        self.lookups.know(sent.ids)
        return sent.batches[0]

    def ahead(self, count: int) -> Iterator[Batch]:
        """Yield batches, each of which was sent by a second thread while the step before was computed."""
        with ThreadPoolExecutor(1) as thread:
            coming = thread.submit(self.sent, 0)
            for number in range(count):
                sent, coming = coming.result(), thread.submit(self.sent, number + 1)
                yield self.arrived(sent)

    def loss(self, batch: Batch) -> Tensor:
        """Return the loss of a batch."""
        main, _ = self.network(batch)
        return binary_cross_entropy_with_logits(main, batch.labels)

    def step(self, batch: Batch) -> Tensor:
        """Learn one batch; return its loss."""
        loss = self.loss(batch)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        self.update()
        return loss.detach()

    def update(self) -> None:
        """Move the weights and the rows."""
        self.optimiser.step()
        self.lookups.step([])

    def timed(self, part: str, call: Callable[[], Any]) -> Any:
        """Return what a call gives, whose time until the device is done counts as that part's."""
        start = now(self.device)
        found = call()
        self.seconds[part] += now(self.device) - start
        return found

    def split(self, number: int) -> None:
        """Learn one batch part by part: the look-ups of the rows are timed inside the forward pass."""
        batch = self.arrived(self.sent(number))
        begun: list[float] = []
        hooks = [table.register_forward_pre_hook(lambda *_: begun.append(now(self.device))) for table in self.tables]
        hooks += [table.register_forward_hook(lambda *_: begun.append(now(self.device))) for table in self.tables]
        loss = self.timed("dense", lambda: self.loss(batch))
        for hook in hooks:
            hook.remove()
        gather = sum(begun[1::2]) - sum(begun[::2])
        self.seconds["gather"] += gather
        self.seconds["dense"] -= gather
        self.optimiser.zero_grad(set_to_none=True)
        self.timed("dense", loss.backward)
        self.timed("update", self.update)


def measured(case: Case, steps: int, peak: float, device: str) -> dict[str, Any]:
    """Return what one model does: rows/s, MFU against `peak` FLOP/s, seconds of a step's parts, loss before and after,
    and the most GiB of the device.
    """
    if device == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    runner, flops = Steps(case, device), flops_of(case)
    first = [float(runner.step(batch)) for batch in runner.ahead(WARM)][0]
    runner.waits.clear()
    start = now(device)
    losses = [runner.step(batch) for batch in runner.ahead(steps)]
    took = (now(device) - start) / steps
    waited = sum(before.elapsed_time(after) for before, after in runner.waits) / 1000 / steps
    for number in range(SPLIT):
        runner.split(number)
    parts = {"wait": waited} | {part: seconds / SPLIT for part, seconds in runner.seconds.items()}
    dense = sum(parameter.numel() for parameter in runner.network.parameters())
    memory = torch.cuda.max_memory_allocated() / 2**30 if device == "cuda" else None
    found = {"model": case.name, "width": case.width, "history": case.history, "rows_per_step": case.rows}
    found |= {"dense_parameters": dense, "rows_per_second": case.rows / took, "seconds_per_step": took}
    found |= {"mfu": flops / took / peak, "wait_share": waited / took, "parts": parts}
    found |= {"first_loss": first, "last_loss": float(losses[-1])}
    return found | {"peak_gib": memory}

"""What a network must satisfy to be trained as a teacher or a student: one protocol, and one check of it.

    class MyNet(nn.Module):
        output_width = 16                                 # an int, on the class or set in the constructor

        def __init__(self, width, *, fields, slots, actions, length, tables, extras, **options): ...  # what it names
        def forward(self, batch: Batch) -> Tensor: ...    # [B, output_width], float32

A head and its loss come from recdistill; embeddings that grow with the log's ids are `GrowableTable`s.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from recdistill.data.batch.batch import Batch
from recdistill.errors import UserError
from recdistill.models.embeddings.growable import TableOptions
from recdistill.models.examples import (
    ACTIONS,
    EXTRAS,
    FIELDS,
    LENGTH,
    SLOTS,
    example_batch,
    repeat_histories,
    take,
    with_longer_neighbour,
)
from recdistill.models.factory import build_backbone, table_modules
from recdistill.models.user_models import kind_of

__all__ = ["Network", "check_model"]

WIDTH = 8


@runtime_checkable
class Network(Protocol):
    """A network as recdistill trains it: `output_width` is the last size of what `forward` returns."""

    output_width: int

    def forward(self, batch: Batch) -> Tensor:
        """Return float32 [B, output_width]."""
        ...


def check_model(network: type[nn.Module] | str, *, width: int = WIDTH, **options: Any) -> None:
    """Raise UserError, which names what is wrong, unless a network keeps what every model promises.

    network: the class, or a kind as the experiment file has it. Checked on small made-up batches: output shape and
    finite values, users without history, independence of the batch's order and of its neighbours, padding, histories
    that samples of a request share, gradients to every weight, the same weights from the same seed.
    """
    kind = network if isinstance(network, str) else kind_of(network)
    for check in (_shape, _no_history, _order, _neighbours, _padding, _shared, _gradients):
        torch.manual_seed(0)
        built = _build(kind, width, options)
        built.eval()
        _run(kind, check, built)
    _same_from_seed(kind, width, options)


def _build(kind: str, width: int, options: dict[str, Any]) -> nn.Module:
    return build_backbone(
        kind,
        width=width,
        fields=FIELDS,
        slots=SLOTS,
        actions=ACTIONS,
        length=LENGTH,
        tables=TableOptions(0, 0.01, "adam"),
        options=options,
        extras=EXTRAS,
    )


def _run(kind: str, check: Callable[[nn.Module], str | None], network: nn.Module) -> None:
    try:
        problem = check(network)
    except Exception as error:  # noqa: BLE001 - a user's network may raise anything
        what = (check.__doc__ or "").rstrip(".")
        raise UserError(f"model kind {kind!r}: {what}: {type(error).__name__}: {error}") from error
    if problem:
        raise UserError(f"model kind {kind!r}: {problem}")


def _out(network: nn.Module, batch: Batch) -> Tensor:
    with torch.no_grad():
        return torch.as_tensor(network(batch))


def _differ(one: Tensor, other: Tensor) -> bool:
    return not torch.allclose(one, other, rtol=1e-4, atol=1e-5)


def _shape(network: nn.Module) -> str | None:
    """A batch of six samples."""
    batch = example_batch()
    out, wanted = network(batch), (len(batch), int(network.output_width))  # type: ignore[arg-type]
    if not isinstance(out, Tensor) or tuple(out.shape) != wanted:
        got = tuple(out.shape) if isinstance(out, Tensor) else type(out).__name__
        return f"forward must return [B, output_width], here {wanted}; got {got}"
    if out.dtype != torch.float32 or not bool(out.isfinite().all()):
        return f"forward must return finite float32 numbers; got {out.dtype}"
    return None


def _no_history(network: nn.Module) -> str | None:
    """A batch whose users have no history."""
    out = network(example_batch((2, 1), (0, 0)))
    return None if bool(out.isfinite().all()) else "gives no finite numbers for users without history"


def _order(network: nn.Module) -> str | None:
    """The same samples in another order."""
    batch, order = example_batch(), torch.tensor([4, 0, 5, 2, 1, 3])
    wrong = _differ(_out(network, take(batch, order)), _out(network, batch)[order])
    return "gives a sample other numbers when the batch's order changes" if wrong else None


def _neighbours(network: nn.Module) -> str | None:
    """One sample of a batch by itself."""
    batch = example_batch()
    wrong = _differ(_out(network, take(batch, torch.tensor([4]))), _out(network, batch)[4:5])
    return "gives a sample other numbers when its neighbours in the batch change" if wrong else None


def _padding(network: nn.Module) -> str | None:
    """A batch in which another history is longer."""
    short, other = with_longer_neighbour()
    wrong = _differ(_out(network, other)[:3], _out(network, short)[:3])
    return (
        "gives a sample other numbers when another history of the batch is longer: mask the padding" if wrong else None
    )


def _shared(network: nn.Module) -> str | None:
    """A batch in which each sample has its history to itself."""
    batch = example_batch()
    wrong = _differ(_out(network, repeat_histories(batch)), _out(network, batch))
    return "gives a sample other numbers when samples share a history: use history.of" if wrong else None


def _gradients(network: nn.Module) -> str | None:
    """The backward pass."""
    network.train()
    network(example_batch()).square().sum().backward()
    for table in table_modules(network):
        if not all(bool(gradient.isfinite().all()) for gradient in table.gradients()):
            return f"table {table.name}: gradients are not finite"
    dead = [name for name, weight in network.named_parameters() if weight.requires_grad and weight.grad is None]
    return f"weight {dead[0]} gets no gradient; leave it out or set requires_grad=False" if dead else None


def _same_from_seed(kind: str, width: int, options: dict[str, Any]) -> None:
    outputs = []
    for _ in range(2):
        torch.manual_seed(3)
        network = _build(kind, width, options)
        network.eval()
        outputs.append(_out(network, example_batch()))
    if not torch.equal(*outputs):
        raise UserError(f"model kind {kind!r}: starts with other weights each time; draw them from torch's generator")

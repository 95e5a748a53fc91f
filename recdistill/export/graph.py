"""The served part of a network as an ONNX graph: one user, any number of candidates.

Tables stay outside: rows are gathered before, once per distinct id, and come in as inputs, one per look-up. The
auxiliary tower, the adapter's and what reads a teacher's hidden states are not traced, so they are not in it.

Shapes: C candidates, L events of the longest history (fixed; padding behind), F context fields, M list slots, X numbers
and W values of a sample, U distinct ids of a look-up (row 0 is the padding), K tasks.
"""

from __future__ import annotations

import contextlib
import copy
import io
import logging
import warnings
from collections.abc import Iterator
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from recdistill.data.batch.ages import gap_edges
from recdistill.data.batch.batch import Batch, Lookup
from recdistill.data.batch.numbers import NUMBERS
from recdistill.errors import UserError
from recdistill.models.attention.request_layout import LaidOut
from recdistill.models.embeddings.growable import GrowableTable
from recdistill.models.heads import Towers

__all__ = ["LookUp", "ServedNetwork", "Shape", "example_inputs", "onnx_graph"]

OPSET = 23
EXAMPLE = 5  # candidates of the example; a dimension of 0 or 1 would be taken for fixed


class Shape(NamedTuple):
    """How many a network was built for: L, F, M and W."""

    length: int
    fields: int
    slots: int
    values: int


class LookUp(NamedTuple):
    """One gathering of rows: the table's number in `table_modules`, the batch's column whose distinct ids it is asked
    for (item, history, user, context, lists), the width of its rows.
    """

    table: int
    column: str
    width: int

    @property
    def name(self) -> str:
        """Return the graph's input."""
        return f"rows_{self.table}_{self.column}"


class _Rows(nn.Module):
    """Stands where a table stood, and gives the rows that came in for the column it is asked for."""

    def __init__(self, number: int, table: GrowableTable, shared: _Asked) -> None:
        super().__init__()
        self.number, self.width, self.shared, self.device = number, table.width, shared, table.device

    def forward(self, unique: Tensor) -> Tensor:
        """Return float32 [U, width]."""
        return self.shared.rows(self.number, self.width, unique)


class _Asked:
    """Which column each tensor of distinct ids belongs to in this pass, and what was asked for."""

    def __init__(self) -> None:
        self.columns: list[tuple[str, Tensor]] = []
        self.given: dict[LookUp, Tensor] = {}
        self.found: list[LookUp] = []

    def rows(self, number: int, width: int, unique: Tensor) -> Tensor:
        column = next((name for name, tensor in self.columns if tensor is unique), None)
        if column is None:
            raise UserError(
                "a table is asked for rows that are not those of one column of the batch (batch.item.unique, "
                "batch.history.unique, ...); only those can be served"
            )
        look_up = LookUp(number, column, width)
        if look_up not in self.found:
            self.found.append(look_up)
        return self.given[look_up] if look_up in self.given else torch.zeros(EXAMPLE + 1, width)


class ServedNetwork(nn.Module):
    """A network's backbone and main tower, of tensors alone: `look_ups` tells which rows come in, in their order.

    UserError for a network that cannot be served: it reads its teacher's hidden states, or looks rows up by
    other ids than the batch's columns.
    """

    def __init__(self, network: Towers, shape: Shape) -> None:
        super().__init__()
        if network.reader is not None:
            raise UserError("it reads its teacher's hidden states, which a server does not have")
        self.asked, self.shape = _Asked(), shape
        self.backbone, self.main = _without_tables(network.backbone, self.asked), copy.deepcopy(network.main)
        self.eval()
        with torch.no_grad():
            self(*example_inputs(self))
        self.look_ups = tuple(self.asked.found)

    def forward(
        self,
        item: Tensor,
        user: Tensor,
        context: Tensor,
        lists: Tensor,
        history: Tensor,
        ago: Tensor,
        action: Tensor,
        events: Tensor,
        numbers: Tensor,
        values: Tensor,
        rows: list[Tensor],
    ) -> Tensor:
        """Return logits float32 [C, K] of item, user int64 [C], context int64 [C, F], lists int64 [C, M], history, ago,
        action int64 [L] (ago in us), events int64 [1] of them real, numbers float32 [C, X], values float32 [C, W], and
        the rows of every look-up; indices are places among those rows.
        """
        batch = self._batch(item, user, context, lists, history, ago, action, events, numbers, values)
        self.asked.columns = [
            ("item", batch.item.unique),
            ("user", batch.user.unique),
            ("context", batch.context.unique),
            ("lists", batch.lists.unique),
            ("history", batch.history.unique),
        ]
        self.asked.given = dict(zip(getattr(self, "look_ups", ()), rows, strict=False))
        return torch.as_tensor(self.main(self.backbone(batch)))

    def _batch(self, item: Tensor, user: Tensor, context: Tensor, lists: Tensor, *rest: Tensor) -> Batch:
        history, ago, action, events, numbers, values = rest
        nothing = torch.zeros(0)
        return Batch(
            sample_id=item,
            item=_lookup(item),
            user=_lookup(user),
            context=_lookup(context),
            lists=_lookup(lists),
            history=LaidOut.of_one(torch.zeros(1, dtype=torch.int64), history, ago, action, events, item),
            numbers=numbers,
            values=values,
            labels=nothing,
            signals=nothing,
        )


def _lookup(inverse: Tensor) -> Lookup:
    return Lookup(torch.zeros(1, dtype=torch.int64), inverse)


def _without_tables(backbone: nn.Module, asked: _Asked) -> nn.Module:
    """Return a copy of a backbone with `_Rows` in the place of its tables; their rows are not copied."""
    tables = [part for part in backbone.modules() if isinstance(part, GrowableTable)]
    memo = {id(table): _Rows(number, table, asked) for number, table in enumerate(tables)}
    return copy.deepcopy(backbone, memo)


def example_inputs(served: ServedNetwork) -> tuple[Tensor | list[Tensor], ...]:
    """Return made-up inputs of `EXAMPLE` candidates, the rows of the look-ups found so far among them."""
    (length, fields, slots, values), n = served.shape, EXAMPLE
    index = torch.arange(n) + 1
    columns = (index, torch.ones_like(index), torch.ones(n, fields, dtype=torch.int64))
    lists = torch.ones(n, slots, dtype=torch.int64)
    events = torch.zeros(length, dtype=torch.int64)
    rows = [torch.randn(n + 1 + at, one.width) for at, one in enumerate(getattr(served, "look_ups", ()))]
    some = torch.ones(1, dtype=torch.int64)
    return (
        *columns,
        lists,
        events,
        events.clone(),
        events.clone(),
        some,
        torch.zeros(n, NUMBERS),
        torch.zeros(n, values),
        rows,
    )


def onnx_graph(served: ServedNetwork) -> bytes:
    """Return the graph as bytes; its inputs are the arguments of `forward`, rows by `LookUp.name`, its output `logits`.

    Raises UserError, with the first line of what torch.export has against it, where the network cannot be exported.
    """
    inputs = example_inputs(served)
    gap_edges()  # searched now: what is computed while a graph is made becomes part of it
    candidates = torch.export.Dim("candidates", min=1)
    distinct = [{0: torch.export.Dim(f"distinct_{at}", min=1)} for at in range(len(served.look_ups))]
    per_candidate = {0: candidates}
    shapes = (*[per_candidate] * 4, *[None] * 4, per_candidate, per_candidate, distinct)
    try:
        with _quiet(), torch.no_grad():
            program = torch.export.export(served, inputs, dynamic_shapes=shapes, strict=False)
            made = cast(
                torch.onnx.ONNXProgram,
                torch.onnx.export(program, opset_version=OPSET, dynamo=True, verbose=False, optimize=True),
            )
    except Exception as error:  # noqa: BLE001 - torch.export has many ways to refuse
        raise UserError(
            f"torch.export does not take it: {type(error).__name__}: {str(error).splitlines()[0]}"
        ) from error
    return bytes(made.model_proto.SerializeToString())


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)

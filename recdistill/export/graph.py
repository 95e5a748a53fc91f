"""The served part of a network as an ONNX graph: any number of users, each with any number of candidates.

Tables stay outside: rows are gathered before, once per distinct id, and come in as inputs, one per look-up. The
auxiliary tower, the adapter's and what reads a teacher's hidden states are not traced, so they are not in it.

Shapes: R users, C candidates of all of them, L events of the longest history (fixed; padding behind), S candidates of
the user with the most, F context fields, M list slots, X numbers and W values of a sample, U distinct ids of a look-up
(row 0 is the padding), K tasks. The inputs, of which a graph has those that its network reads:

    item, user      int64 [C]; context [C, F]; lists [C, M]: places among the distinct ids of each
    history         int64 [R, L], the same of the events, oldest first; ago [R, L], us; action [R, L]
    events          int64 [R], how many of the L are real
    row             int64 [C], the user of each candidate
    slots           int64 [R, S], the candidates of each user, then any; place [C], where each stands in slots.ravel()
    numbers         float32 [C, X]; values [C, W]
    rows_N          float32 [U, width], the rows of look-up N
"""

from __future__ import annotations

import contextlib
import copy
import io
import logging
import warnings
from collections.abc import Iterator, Mapping
from functools import partial
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from recdistill.data.batch.ages import gap_edges
from recdistill.data.batch.batch import Batch, Lookup
from recdistill.data.batch.numbers import NUMBERS
from recdistill.errors import UserError
from recdistill.models.attention.request_layout import Groups, LaidOut
from recdistill.models.embeddings.growable import GrowableTable
from recdistill.models.heads import Towers

__all__ = ["LookUp", "ServedNetwork", "Shape", "example_inputs", "onnx_graph"]

OPSET = 23
EXAMPLE, USERS, SLOTS = 7, 3, 4  # of the example; a dimension of 0 or 1 would be taken for fixed
COLUMNS = ("item", "user", "context", "lists", "history")
INPUTS = (
    *("item", "user", "context", "lists", "history", "ago", "action", "events"),
    *("row", "slots", "place", "numbers", "values"),
)


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
    """A network's backbone and main tower, of tensors alone. look_ups: which rows come in, in their order; names: the
    inputs in their order, see the top of this file.

    UserError for a network that cannot be served: it reads its teacher's hidden states, or looks rows up by
    other ids than the batch's columns.
    """

    def __init__(self, network: Towers, shape: Shape) -> None:
        super().__init__()
        if network.reader is not None:
            raise UserError("it reads its teacher's hidden states, which a server does not have")
        self.asked, self.shape, self.look_ups = _Asked(), shape, tuple[LookUp, ...]()
        self.backbone, self.main = _without_tables(network.backbone, self.asked), copy.deepcopy(network.main)
        self.eval()
        with torch.no_grad():
            self(*example_inputs(self).values())
        self.look_ups = tuple(self.asked.found)

    @property
    def names(self) -> tuple[str, ...]:
        """Return the names of the inputs, in their order."""
        return (*INPUTS, *(f"rows_{number}" for number in range(len(self.look_ups))))

    def forward(self, *inputs: Tensor) -> Tensor:
        """Return logits float32 [C, K] of the inputs, in the order of `names`."""
        given = dict(zip(self.names, inputs, strict=True))
        batch = _batch(given)
        self.asked.columns = [(name, getattr(batch, name).unique) for name in COLUMNS]
        self.asked.given = {one: given[f"rows_{number}"] for number, one in enumerate(self.look_ups)}
        return torch.as_tensor(self.main(self.backbone(batch)))


def _batch(given: Mapping[str, Tensor]) -> Batch:
    """Return the batch that the inputs are; the distinct ids of its columns are nothing but their names."""
    index, ago, action, events = (given[name] for name in ("history", "ago", "action", "events"))
    groups = Groups(given["row"], given["slots"], given["place"])
    nothing = torch.zeros(0)
    return Batch(
        sample_id=given["item"],
        **{name: Lookup(_distinct(), given[name]) for name in ("item", "user", "context", "lists")},  # type: ignore[arg-type]
        history=LaidOut.of_rows(_distinct(), index, ago, action, events, groups),
        numbers=given["numbers"],
        values=given["values"],
        labels=nothing,
        signals=nothing,
    )


def _distinct() -> Tensor:
    return torch.zeros(1, dtype=torch.int64)


def _without_tables(backbone: nn.Module, asked: _Asked) -> nn.Module:
    """Return a copy of a backbone with `_Rows` in the place of its tables; their rows are not copied."""
    tables = [part for part in backbone.modules() if isinstance(part, GrowableTable)]
    memo = {id(table): _Rows(number, table, asked) for number, table in enumerate(tables)}
    return copy.deepcopy(backbone, memo)


def example_inputs(served: ServedNetwork) -> dict[str, Tensor]:
    """Return made-up inputs by name, in the order of `ServedNetwork.names`, of `EXAMPLE` candidates and `USERS`
    histories; no dimension that may vary is 0 or 1.
    """
    (length, fields, slots, values), n = served.shape, EXAMPLE
    ones = partial(torch.ones, dtype=torch.int64)
    row = torch.arange(n) % USERS
    inputs = {
        "item": torch.arange(n) + 1,
        "user": ones(n),
        "context": ones(n, fields),
        "lists": ones(n, slots),
        **{name: ones(USERS, length) for name in ("history", "ago", "action")},
        "events": ones(USERS),
        "row": row,
        "slots": ones(USERS, SLOTS),
        "place": row * SLOTS + torch.arange(n) // USERS,
        "numbers": torch.zeros(n, NUMBERS),
        "values": torch.zeros(n, values),
    }
    return inputs | {f"rows_{at}": torch.randn(n + 1 + at, one.width) for at, one in enumerate(served.look_ups)}


def _dimensions(served: ServedNetwork) -> tuple[dict[int, torch.export.Dim], ...]:
    """Return which dimensions of each input may vary."""
    candidates, users, slots = (torch.export.Dim(name, min=1) for name in ("candidates", "users", "slots"))
    by_user = dict.fromkeys(("history", "ago", "action", "events"), {0: users})
    found = dict.fromkeys(INPUTS, {0: candidates}) | by_user | {"slots": {0: users, 1: slots}}
    rows = ({0: torch.export.Dim(f"distinct_{at}", min=1)} for at in range(len(served.look_ups)))
    return (*found.values(), *rows)


def onnx_graph(served: ServedNetwork) -> bytes:
    """Return the graph as bytes; its inputs are `ServedNetwork.names`, its output `logits`.

    Raises UserError, with the first line of what torch.export has against it, where the network cannot be exported.
    """
    inputs = tuple(example_inputs(served).values())
    gap_edges()  # searched now: what is computed while a graph is made becomes part of it
    try:
        with _quiet(), torch.no_grad():
            program = torch.export.export(served, inputs, dynamic_shapes=(_dimensions(served),), strict=False)
            made = cast(
                torch.onnx.ONNXProgram,
                torch.onnx.export(
                    program,
                    input_names=served.names,
                    output_names=["logits"],
                    opset_version=OPSET,
                    dynamo=True,
                    verbose=False,
                    optimize=True,
                ),
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

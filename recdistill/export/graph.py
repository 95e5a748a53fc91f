"""The served part of a network as an ONNX graph: any number of users, each with any number of candidates.

Tables stay outside: rows are gathered before, once per distinct id, and come in as inputs, one per look-up. The
auxiliary tower, the adapter's and what reads a teacher's hidden states are not traced, so they are not in it. Inputs
and shapes: see inputs.py; K tasks.
"""

from __future__ import annotations

import contextlib
import copy
import io
import logging
import re
import warnings
from collections.abc import Iterator
from typing import cast

import torch
from torch import Tensor, nn

from recdistill.data.batch.ages import gap_edges
from recdistill.errors import UserError
from recdistill.export.inputs import Input, LookUp, Shape, batch_of, columns_of, dimensions, example, inputs_of
from recdistill.models.embeddings.growable import GrowableTable
from recdistill.models.heads import Towers

__all__ = ["ServedNetwork", "onnx_graph", "reason"]

OPSET = 23
OPERATOR = re.compile(r"target=torch\.ops\.aten\.(\w+)")
FIXED = re.compile(r"Constraints violated \(([^)]*)\)")
COLOUR = re.compile(r"\x1b\[[0-9;]*m")
ROWS = 2  # of a table before its look-ups are known: the padding, and the place that all of an example are


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
        return self.given[look_up] if look_up in self.given else torch.zeros(ROWS, width)


class ServedNetwork(nn.Module):
    """A network's backbone and main tower, of tensors alone. look_ups: which rows come in, in their order.

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
        self._try()
        self.look_ups = tuple(self.asked.found)

    def _try(self) -> None:
        """Make a pass, which shows what is looked up."""
        try:
            with torch.no_grad():
                self(*example(self.inputs).values())
        except UserError:
            raise
        except Exception as error:  # noqa: BLE001 - a user's network may raise anything
            raise UserError(
                f"it does not take a batch as a server makes it, whose histories are padded: {reason(error)}; read "
                "them by batch.history.dense(), or as recdistill's own networks do"
            ) from error

    @property
    def inputs(self) -> dict[str, Input]:
        """Return the inputs by name, in their order."""
        return inputs_of(self.shape, self.look_ups)

    def forward(self, *inputs: Tensor) -> Tensor:
        """Return logits float32 [C, K] of the inputs, in their order."""
        given = dict(zip(self.inputs, inputs, strict=True))
        batch = batch_of(given, self.shape)
        self.asked.columns = columns_of(batch)
        self.asked.given = {one: given[f"rows_{number}"] for number, one in enumerate(self.look_ups)}
        return torch.as_tensor(self.main(self.backbone(batch)))


def _without_tables(backbone: nn.Module, asked: _Asked) -> nn.Module:
    """Return a copy of a backbone with `_Rows` in the place of its tables; their rows are not copied."""
    tables = [part for part in backbone.modules() if isinstance(part, GrowableTable)]
    memo = {id(table): _Rows(number, table, asked) for number, table in enumerate(tables)}
    return copy.deepcopy(backbone, memo)


def onnx_graph(served: ServedNetwork) -> bytes:
    """Return the graph as bytes; its inputs are those of `ServedNetwork.inputs` that are read, its output `logits`.

    Raises UserError, which says in one line what torch.export or ONNX has against it, where it cannot be exported.
    """
    inputs = served.inputs
    gap_edges()  # searched now: what is computed while a graph is made becomes part of it
    try:
        with _quiet(), torch.no_grad():
            program = torch.export.export(
                served, tuple(example(inputs).values()), dynamic_shapes=(dimensions(inputs),), strict=False
            )
            made = cast(
                torch.onnx.ONNXProgram,
                torch.onnx.export(
                    program,
                    input_names=list(inputs),
                    output_names=["logits"],
                    opset_version=OPSET,
                    dynamo=True,
                    verbose=False,
                    optimize=True,
                ),
            )
    except Exception as error:  # noqa: BLE001 - torch.export has many ways to refuse
        raise UserError(f"torch.export does not take it: {reason(error)}") from error
    _drop_unused(made)
    return bytes(made.model_proto.SerializeToString())


def _drop_unused(made: torch.onnx.ONNXProgram) -> None:
    """Drop the inputs that the network does not read: each would cost a call a few microseconds."""
    inputs = made.model.graph.inputs
    for value in [one for one in inputs if not one.uses()]:
        inputs.remove(value)


def reason(error: BaseException) -> str:
    """Return in one line what was wrong at the bottom, and with which operator, where that is said on the way."""
    operator = ""
    while True:
        found = OPERATOR.search(str(error))
        operator = f"{found[1]}: " if found else operator
        if error.__cause__ is None:
            break
        error = error.__cause__
    first = next(iter(str(error).strip().splitlines()), "")
    if fixed := FIXED.match(first):
        return f"its graph is of one number of {fixed[1]} alone; ask tensor.shape for sizes: len() and loops fix them"
    return f"{operator}{type(error).__name__}: {COLOUR.sub('', first)}"


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

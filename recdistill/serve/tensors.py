"""Tensors of the Open Inference Protocol, as JSON and as bytes behind it (the binary tensor extension).

A body with binary tensors is JSON of as many bytes as the header `Inference-Header-Content-Length` says, then the
tensors' bytes in the order of the inputs: numbers little-endian, of BYTES each entry behind its length, 4 bytes.
https://github.com/kserve/open-inference-protocol, extension_binary_data.md of Triton
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Annotated, Any, NamedTuple

import numpy as np
from pydantic import BaseModel, Field, StrictBool, StrictInt, StrictStr

from recdistill.serve.refusal import RefusedError
from recdistill.serve.request import SHOWN, Column
from recdistill.serve.values import listed
from recdistill.typing import Array

__all__ = ["HEADER", "InferBody", "Tensor", "split", "tensors", "with_binary"]

HEADER = "inference-header-content-length"
TYPES = {
    **{f"INT{bits}": np.dtype(f"<i{bits // 8}") for bits in (8, 16, 32, 64)},
    **{f"UINT{bits}": np.dtype(f"<u{bits // 8}") for bits in (8, 16, 32, 64)},
    **{f"FP{bits}": np.dtype(f"<f{bits // 8}") for bits in (32, 64)},
}
TEXT, LENGTH = "BYTES", 4
WIDE = 8  # bytes of numbers that are read as they are
MOST_TENSORS = 1000  # inputs, and outputs


class Parameters(BaseModel):
    """Of a tensor or a request; others are ignored."""

    binary_data_size: Annotated[StrictInt, Field(ge=0)] | None = None
    binary_data: StrictBool | None = None
    binary_data_output: StrictBool = False


class InputBody(BaseModel):
    """A tensor of a request; `data` where it is not binary, flat or by rows."""

    name: StrictStr
    shape: Annotated[list[Annotated[StrictInt, Field(ge=0)]], Field(min_length=1, max_length=2)]
    datatype: StrictStr
    parameters: Parameters = Parameters()
    data: list[Any] | None = None


class OutputBody(BaseModel):
    """A tensor of the answer that is asked for."""

    name: StrictStr
    parameters: Parameters = Parameters()


class InferBody(BaseModel):
    """A request of the Open Inference Protocol."""

    id: StrictStr = ""
    parameters: Parameters = Parameters()
    inputs: Annotated[list[InputBody], Field(min_length=1, max_length=MOST_TENSORS)]
    outputs: Annotated[list[OutputBody], Field(max_length=MOST_TENSORS)] = []


class Tensor(NamedTuple):
    """An input's shape, and its values by rows: whole numbers, floats or text."""

    shape: list[int]
    values: Column

    def first(self) -> Any:
        """Return the first value."""
        return listed(self.values[:1])[0]

    def rows(self) -> list[Sequence[Any]]:
        """Return the values of each row, of shape [N, M]."""
        width, values = self.shape[1], listed(self.values)
        return [values[at * width : (at + 1) * width] for at in range(self.shape[0])]


def split(body: bytes, length: str | None) -> tuple[bytes, memoryview]:
    """Return (JSON, binary tensors) of a body; length: the header's value, None where there is none."""
    if length is None:
        return body, memoryview(b"")
    if not length.isdecimal() or len(length) > 18 or int(length) > len(body):
        raise RefusedError(422, f"{HEADER}: a number of at most {len(body):,}, the body's bytes, was expected")
    return body[: int(length)], memoryview(body)[int(length) :]


def tensors(inputs: Sequence[InputBody], binary: memoryview) -> dict[str, Tensor]:
    """Return the inputs by name; RefusedError, which names the input, for what they cannot be."""
    found: dict[str, Tensor] = {}
    for one in inputs:
        what = f"inputs.{one.name[:SHOWN]}"
        if one.name in found:
            raise RefusedError(422, f"{what}: it is there twice")
        if one.datatype != TEXT and one.datatype not in TYPES:
            raise RefusedError(422, f"{what}.datatype: one of {', '.join(TYPES)}, {TEXT} was expected")
        size = one.parameters.binary_data_size
        if size is not None and size > len(binary):
            raise RefusedError(422, f"{what}: {size:,} bytes of data were expected; got {len(binary):,}")
        values = _listed(one, what) if size is None else _decoded(one, binary[:size], what)
        binary = binary[size or 0 :]
        if len(values) != math.prod(one.shape):
            raise RefusedError(422, f"{what}: shape {one.shape} was expected; got {len(values):,} values")
        found[one.name] = Tensor(one.shape, values)
    if len(binary):
        raise RefusedError(422, f"body: {len(binary):,} bytes are of no input")
    return found


def _listed(one: InputBody, what: str) -> list[Any]:
    """Return the values of JSON."""
    if one.data is None:
        raise RefusedError(422, f"{what}: data, or binary_data_size and the bytes, were expected")
    rows = set(map(type, one.data)) == {list}
    values = list(chain.from_iterable(one.data)) if rows else one.data
    allowed = {str} if one.datatype == TEXT else {int, float} if one.datatype.startswith("FP") else {int}
    if not set(map(type, values)) <= allowed:
        raise RefusedError(422, f"{what}.data: values of {one.datatype} were expected")
    return values


def _decoded(one: InputBody, data: memoryview, what: str) -> Column:
    """Return the values of bytes."""
    if one.datatype == TEXT:
        return list(_texts(data, what))
    kind = TYPES[one.datatype]
    if len(data) % kind.itemsize:
        raise RefusedError(422, f"{what}: {one.datatype} has {kind.itemsize} bytes a value; got {len(data):,} bytes")
    found = np.frombuffer(data, kind)
    return found if kind.itemsize == WIDE and kind.kind in "if" else found.tolist()


def _texts(data: memoryview, what: str) -> Iterator[str]:
    while len(data):
        end = LENGTH + int.from_bytes(data[:LENGTH], "little")
        if end > len(data):
            raise RefusedError(
                422, f"{what}: a text of {end - LENGTH:,} bytes was expected, and {len(data):,} are left"
            )
        try:
            yield str(data[LENGTH:end], "utf-8")
        except UnicodeDecodeError:
            raise RefusedError(422, f"{what}: text in UTF-8 was expected") from None
        data = data[end:]


def with_binary(outputs: Sequence[tuple[str, Array, bool]]) -> tuple[list[dict[str, Any]], bytes]:
    """Return (tensors of an answer, the bytes behind them) of (name, float32 [C], whether as bytes)."""
    tree: list[dict[str, Any]] = []
    parts = []
    for name, values, binary in outputs:
        about = {"name": name, "datatype": "FP32", "shape": [len(values)]}
        if binary:
            parts.append(values.astype("<f4").tobytes())
            tree.append({**about, "parameters": {"binary_data_size": len(parts[-1])}})
        else:
            tree.append({**about, "data": values.tolist()})
    return tree, b"".join(parts)

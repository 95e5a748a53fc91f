"""Records of tensors from the first rank to the others: dataclasses that both sides know by name, as JSON and arrays,
so that nothing which arrives can be more than that.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np
import torch
from safetensors.numpy import load, save
from torch import Tensor

from recdistill.distributed.ranks import Ranks
from recdistill.typing import Array

__all__ = ["decoded", "encoded", "given_out", "to_first"]

HEAD = 8  # bytes of the length of the JSON, which comes next, and then the arrays
Class = type[Any]


def encoded(value: object) -> bytes:
    """Return a record as bytes: a dataclass, tuple, list, dict by text, tensor on the host, number, text, None."""
    arrays: dict[str, Array] = {}
    text = json.dumps(_flat(value, arrays)).encode()
    return len(text).to_bytes(HEAD, "little") + text + save(arrays)


def decoded(data: bytes, classes: Sequence[Class]) -> Any:
    """Return the record again, of which these dataclasses are part."""
    end = HEAD + int.from_bytes(data[:HEAD], "little")
    return _made(json.loads(data[HEAD:end]), load(data[end:]), {one.__name__: one for one in classes})


def _flat(value: object, arrays: dict[str, Array]) -> Any:
    if isinstance(value, Tensor):
        arrays[str(len(arrays))] = np.ascontiguousarray(value.numpy())
        return {"array": str(len(arrays) - 1)}
    if isinstance(value, dict):
        return {"dict": {key: _flat(one, arrays) for key, one in value.items()}}
    if isinstance(value, list | tuple):
        return {type(value).__name__: [_flat(one, arrays) for one in value]}
    if is_dataclass(value):
        inside = {one.name: _flat(getattr(value, one.name), arrays) for one in fields(value)}
        return {"class": type(value).__name__, "fields": inside}
    return value


def _made(value: Any, arrays: dict[str, Array], classes: dict[str, Class]) -> Any:
    if not isinstance(value, dict):
        return value
    if "array" in value:
        return torch.from_numpy(arrays[value["array"]].copy())
    if "class" in value:
        inside = {key: _made(one, arrays, classes) for key, one in value["fields"].items()}
        return classes[value["class"]](**inside)
    if "dict" in value:
        return {key: _made(one, arrays, classes) for key, one in value["dict"].items()}
    ((kind, inside),) = value.items()
    found = [_made(one, arrays, classes) for one in inside]
    return tuple(found) if kind == "tuple" else found


def given_out(ranks: Ranks, values: Sequence[object], classes: Sequence[Class]) -> Any:
    """Return what the first rank has for this one of `values`, one for each rank; the others give none. A call of all
    ranks together. classes: the dataclasses that values are made of.
    """
    data = [b"", *map(encoded, values[1:])] if ranks.first else [b""] * ranks.size
    mine = torch.tensor([len(one) for one in data])
    theirs = ranks.counts(mine)
    sent = torch.from_numpy(np.frombuffer(b"".join(data), np.uint8).copy())
    came = ranks.exchange(sent, mine.tolist(), theirs.tolist())
    return values[0] if ranks.first else decoded(came.numpy().tobytes(), classes)


def to_first(ranks: Ranks, rows: Tensor, counts: Sequence[int]) -> Tensor:
    """Return the rows [sum counts, ...] of all ranks, in order, on the first one, and none on the others; counts: how
    many each has. A call of all ranks together.
    """
    mine = [len(rows), *[0] * (ranks.size - 1)]
    return ranks.exchange(rows, mine, counts if ranks.first else [0] * ranks.size)

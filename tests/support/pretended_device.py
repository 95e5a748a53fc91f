"""A device that there is not: tensors that say they lie elsewhere, compute on the CPU, and refuse to meet one that is
here.

It stands where the meta device stands, so that code which places tensors can be run, with values, on a machine with a
CPU alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

HERE, THERE = torch.device("cpu"), torch.device("meta")
MOVES = (torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default)


class Elsewhere(Tensor):
    """A tensor elsewhere, whose values a tensor here holds."""

    is_meta = False  # it has values

    @staticmethod
    def __new__(cls, held: Tensor) -> Elsewhere:
        shape = {"strides": held.stride(), "storage_offset": held.storage_offset(), "dtype": held.dtype}
        return Tensor._make_wrapper_subclass(cls, held.shape, device=THERE, **shape)

    def __init__(self, held: Tensor) -> None:
        self.held = held

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _call(func, args, kwargs or {})


def _call(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    tensors = [part for part in tree_leaves((args, kwargs)) if isinstance(part, Tensor)]
    away = [isinstance(tensor, Elsewhere) for tensor in tensors]
    if (
        any(away)
        and func not in MOVES
        and any(tensor.ndim and not gone for tensor, gone in zip(tensors, away, strict=True))
    ):
        raise RuntimeError(f"{func}: some tensors are here, and some elsewhere")
    device = kwargs.get("device")
    if device is not None:
        kwargs = {**kwargs, "device": HERE}
    lands = any(away) if device is None else torch.device(device) == THERE
    args, kwargs = tree_map_only(Elsewhere, lambda tensor: tensor.held, (args, kwargs))
    found = func(*args, **kwargs)
    if func._schema.name.endswith("_"):  # in place
        return tensors[0]
    return tree_map_only(Tensor, Elsewhere, found) if lands else found


class _Mode(TorchDispatchMode):
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _call(func, args, kwargs or {})


@contextmanager
def another_device() -> Iterator[torch.device]:
    """Provide that device inside the block."""
    before = torch.__future__.get_swap_module_params_on_conversion()
    torch.__future__.set_swap_module_params_on_conversion(True)
    try:
        with _Mode():
            yield THERE
    finally:
        torch.__future__.set_swap_module_params_on_conversion(before)

"""Tensors in the files of a checkpoint, read when they are asked for: all of them in one file, or a file per rank that
wrote.

A tensor of which several files have rows is these rows one upon the other, in order of the files; their headers hold
how many.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import EllipsisType
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

__all__ = ["Stored", "stored"]


@dataclass(frozen=True)
class Stored:
    """One tensor: the files that have rows of it, and the shape of what each has."""

    name: str
    files: tuple[Path, ...]
    shapes: tuple[torch.Size, ...]

    @property
    def shape(self) -> torch.Size:
        """Return the shape of the whole."""
        first = self.shapes[0]
        return first if not first else torch.Size([sum(shape[0] for shape in self.shapes), *first[1:]])

    def __getitem__(self, rows: slice | EllipsisType) -> Tensor:
        """Return rows low:high, or all by `...`; the files that have none of them are not read."""
        if len(self.files) == 1 and rows is ...:
            return self._read(0, None)
        low, high, _ = (slice(None) if rows is ... else rows).indices(self.shape[0])
        parts, at = [], 0
        for number, (length, *_) in enumerate(self.shapes):
            if max(low, at) < min(high, at + length):
                parts.append(self._read(number, slice(max(low - at, 0), min(high - at, length))))
            at += length
        return torch.cat(parts) if len(parts) > 1 else parts[0] if parts else self._read(0, None)[:0]

    def _read(self, number: int, rows: slice | None) -> Tensor:
        """Return rows of a file, copied so that the file's pages are let go, or all of them, which the
        system reads when they are used.
        """
        with safe_open(self.files[number], "pt") as file:
            return torch.as_tensor(
                file.get_tensor(self.name) if rows is None else file.get_slice(self.name)[rows].clone()
            )


def stored(files: Sequence[Path]) -> dict[str, Stored]:
    """Return every tensor of a checkpoint's files, by name; no more than their headers is read."""
    found: dict[str, dict[Path, torch.Size]] = {}
    for path in files:
        file: Any = safe_open(path, "pt")
        for name in file.keys():  # noqa: SIM118 (a file is no dict)
            found.setdefault(name, {})[path] = torch.Size(file.get_slice(name).get_shape())
    return {name: Stored(name, tuple(parts), tuple(parts.values())) for name, parts in found.items()}

"""Embedding rows of one width at another one without training, as CrossAdapt (2602.01775) begins its students.

Rows X [n, d] become X B, B [d, w] with orthonormal columns (rows, where w > d), then X B R, R orthogonal:

    w < d   B: the leading right singular vectors of X: no other w columns keep all dot products X X^T as well
    w >= d  B: the identity and columns of zeros: every dot product stays
    R       turns the rows onto those that the student has already, which its network can read: no dot product changes

The paper's abstract says that much; how it projects is not published, so this is our reading.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from recdistill.distributed.ranks import ALONE, Ranks

__all__ = ["leading", "turn"]


def leading(pieces: Iterable[Tensor], old: int, width: int, ranks: Ranks = ALONE) -> Tensor:
    """Return B, float64 [old, width], for the rows [n, old] that `pieces` of all ranks have together; memory: a piece,
    old^2.

    Deterministic: of each column the entry that is largest in size is positive.
    """
    if width >= old:
        return torch.eye(old, width, dtype=torch.float64)
    products = torch.zeros(old, old, dtype=torch.float64)
    for piece in pieces:
        products += piece.double().T @ piece.double()
    ranks.sum_in_place([products])
    found = torch.linalg.eigh(products).eigenvectors.flip(1)[:, :width]  # eigenvalues ascend
    largest = found.gather(0, found.abs().argmax(0, keepdim=True))
    return torch.as_tensor(found * torch.where(largest < 0, -1.0, 1.0))


def turn(products: Tensor) -> Tensor:
    """Return R, float64 [width, width], orthogonal, which brings rows X nearest to rows Y where `products` is X^T Y
    (Schoenemann's Procrustes rotation, 1966); the identity where they have nothing in common.
    """
    products = products.double()
    if not bool(products.any()):
        return torch.eye(len(products), dtype=torch.float64)
    left, _, right = torch.linalg.svd(products)
    return torch.as_tensor(left @ right)

"""Rows at another width: no rows of that width keep all dot products as well; where none must go, none changes."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from recdistill.compress.project import leading, turn

DRAWN = st.tuples(st.integers(1, 40), st.integers(1, 9), st.integers(0, 10_000))


def rows_of(drawn: tuple[int, int, int]) -> Tensor:
    n, width, seed = drawn
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(n, width, generator=draw, dtype=torch.float64) * torch.rand(width, generator=draw).exp()


def products(rows: Tensor) -> Tensor:
    return rows @ rows.T


@given(DRAWN, st.integers(1, 12), st.integers(1, 40))
def test_dot_products_are_kept_as_well_as_any_rows_of_that_width_can(
    drawn: tuple[int, int, int], width: int, piece: int
) -> None:
    rows = rows_of(drawn)
    basis = leading(rows.split(piece), rows.shape[1], width)
    left, values, right = np.linalg.svd(rows.numpy(), full_matrices=False)
    best = (left[:, :width] * values[:width]) @ right[:width]
    lost = float(np.linalg.norm(best @ best.T - rows.numpy() @ rows.numpy().T))  # Eckart and Young
    mine = float((products(rows @ basis) - products(rows)).norm())
    assert abs(mine - lost) <= 1e-7 * (1 + float(products(rows).norm()))


@given(DRAWN, st.integers(0, 5))
def test_at_least_as_wide_nothing_changes_and_what_is_new_is_zero(drawn: tuple[int, int, int], more: int) -> None:
    rows = rows_of(drawn)
    found = rows @ leading([rows], rows.shape[1], rows.shape[1] + more)
    assert torch.equal(found[:, : rows.shape[1]], rows) and not bool(found[:, rows.shape[1] :].any())


@given(DRAWN)
def test_a_turn_finds_the_rotation_that_was_made_and_changes_no_dot_product(drawn: tuple[int, int, int]) -> None:
    rows = rows_of(drawn)
    made = torch.linalg.qr(rows_of((rows.shape[1], rows.shape[1], 7)))[0]
    found = turn(rows.T @ (rows @ made))
    assert torch.allclose(rows @ found, rows @ made, atol=1e-9)
    assert torch.allclose(products(rows @ found), products(rows), atol=1e-9)


@given(DRAWN, st.integers(0, 10_000))
def test_no_other_rotation_comes_nearer(drawn: tuple[int, int, int], seed: int) -> None:
    rows, own = rows_of(drawn), rows_of((drawn[0], drawn[1], seed))
    other = torch.linalg.qr(rows_of((rows.shape[1], rows.shape[1], seed + 1)))[0]
    assert float((rows @ turn(rows.T @ own) - own).norm()) <= float((rows @ other - own).norm()) + 1e-9


def test_nothing_in_common_turns_nothing() -> None:
    assert torch.equal(turn(torch.zeros(3, 3)), torch.eye(3, dtype=torch.float64))


def test_rows_of_one_piece_or_many_give_the_same_columns_up_to_rounding() -> None:
    rows = rows_of((40, 6, 3))
    assert torch.allclose(leading([rows], 6, 3), leading(rows.split(7), 6, 3), atol=1e-9)

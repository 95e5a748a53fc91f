"""Work in parts: one outcome whatever the number of workers, and whatever becomes of them."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

import pytest

from recdistill.errors import RecdistillError, UserError
from recdistill.tables.validation import RowError
from recdistill.workers.ledger import ATTEMPTS
from recdistill.workers.parts import Workers, in_parts
from tests.support.part_work import doubled, killed_at_first, refused_from, where

SEVERAL = [Workers(1), Workers(3)]


@pytest.mark.parametrize("workers", SEVERAL, ids=str)
def test_results_come_in_the_order_of_the_parts(workers: Workers) -> None:
    assert list(in_parts(doubled, range(40), workers)) == [2 * part for part in range(40)]
    assert list(in_parts(doubled, [], workers)) == []


def test_several_workers_are_other_processes_and_one_is_this() -> None:
    assert set(in_parts(where, range(6), Workers(1))) == {os.getpid()}
    assert os.getpid() not in set(in_parts(where, range(6), Workers(2)))


@pytest.mark.parametrize("workers", SEVERAL, ids=str)
def test_the_first_part_that_fails_is_the_one_that_is_named(workers: Workers) -> None:
    done = []
    with pytest.raises(RowError) as wrong:
        for part in in_parts(partial(refused_from, 5), range(9), workers):
            done.append(part)
    assert done == [0, 1, 2, 3, 4]
    assert str(wrong.value) == "file 5: row 5, is odd" and (wrong.value.row, wrong.value.problem) == (5, "is odd")
    with pytest.raises(UserError, match="^part 6 is refused$"):
        list(in_parts(partial(refused_from, 6), range(9), workers))


def test_the_part_of_a_killed_worker_is_done_by_another(tmp_path: Path) -> None:
    assert list(in_parts(partial(killed_at_first, tmp_path, ATTEMPTS - 1), range(8), Workers(2))) == list(range(8))
    assert len(list(tmp_path.iterdir())) == ATTEMPTS


def test_a_part_that_kills_its_workers_is_given_up_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(RecdistillError) as lost:
        list(in_parts(partial(killed_at_first, tmp_path, 99), range(8), Workers(2)))
    assert str(lost.value).startswith(f"3: its worker was lost {ATTEMPTS} times (exit code -9; out of memory?)")
    assert "\n" not in str(lost.value) and len(list(tmp_path.iterdir())) == ATTEMPTS

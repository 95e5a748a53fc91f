"""A table that FBGEMM holds learns what the host's table does, and goes on from its state, as the host's does from its
own.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from recdistill.errors import UserError
from recdistill.models.embeddings.fbgemm_rows import FbgemmTable, check_fbgemm, holds
from recdistill.models.embeddings.growable import GrowableTable
from tests.support.programs import needs
from tests.support.table_steps import Steps, agree, learned

HERE, WIDTH = torch.device("cpu"), 8


def table() -> GrowableTable:
    return GrowableTable(WIDTH, seed=1, name="t", std=0.1, optimiser="rowwise-adagrad", rate=0.05)


@needs("fbgemm_gpu")
@pytest.mark.parametrize("kind", ["plain", "frozen", "decayed"])
def test_it_learns_what_the_hosts_table_learns(kind: str) -> None:
    """Also where it grows, and where look-ups of a step meet a row."""
    fused = FbgemmTable(table(), HERE)
    agree(learned(fused, kind), learned(table(), kind))
    assert not list(fused.parameters()) and not list(fused.buffers())


@needs("fbgemm_gpu")
def test_a_run_goes_on_with_either() -> None:
    steps: Steps = [[[1, 2, 700]], [[2, 3], [3, 1]], [[700, 3]]]
    whole = learned(table(), "plain", steps)
    for first, then in ((table(), FbgemmTable(table(), HERE)), (FbgemmTable(table(), HERE), table())):
        then.load_state(learned(first, "plain", steps[:2]))
        agree(learned(then, "plain", steps, begin=2), whole)


@needs("fbgemm_gpu")
def test_a_rate_counts_from_the_next_step_on() -> None:
    fused, host = FbgemmTable(table(), HERE), table()
    for one in (fused, host):
        learned(one, "plain")
        one.set_rate(0.5)
    agree(learned(fused, "plain"), learned(host, "plain"))


def test_it_holds_rows_whose_width_four_divides() -> None:
    assert holds(8) and not holds(1) and not holds(6)


@pytest.fixture
def asked_anew() -> Iterator[None]:
    check_fbgemm.cache_clear()
    yield
    check_fbgemm.cache_clear()


def test_where_it_is_missing_or_broken_one_line_names_what_to_do(
    monkeypatch: pytest.MonkeyPatch, asked_anew: None
) -> None:
    monkeypatch.setitem(sys.modules, "fbgemm_gpu", None)
    with pytest.raises(
        UserError, match=r"needs FBGEMM: pip install 'recdistill\[torchrec\]'.*; or set embeddings: own"
    ):
        check_fbgemm()

    def broken(_name: str) -> Any:
        raise OSError("undefined symbol")

    monkeypatch.setattr("recdistill.models.embeddings.fbgemm_rows.import_module", broken)
    with pytest.raises(UserError, match="does not load with torch .*; install the release .* or set embeddings: own"):
        check_fbgemm()

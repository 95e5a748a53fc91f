"""A table in a device's memory learns what the host's table does: through torch on a device that only pretends to be
one, and through the kernels in Triton's interpreter; the kernels compile for GPUs that are not here.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recdistill.errors import UserError
from recdistill.models.embeddings.fused_rows import serves
from recdistill.models.embeddings.growable import GrowableTable, replace_tables
from recdistill.models.embeddings.on_device import DeviceTable, bytes_of
from recdistill.models.factory import table_modules
from tests.support.batches import make_net
from tests.support.paths import ROOT
from tests.support.pretended_device import Elsewhere, another_device
from tests.support.programs import needs
from tests.support.table_steps import TABLES, Steps, agree, learned, table

HERE = torch.device("cpu")


@pytest.mark.parametrize("kind", TABLES)
def test_it_learns_elsewhere_what_the_host_learns(kind: str) -> None:
    host = learned(table(kind), kind)
    with another_device() as device:
        far = DeviceTable(table(kind), device)
        found = learned(far, kind)
        assert isinstance(far._weight, Elsewhere) and isinstance(far._second, Elsewhere)
        assert not any(isinstance(value, Elsewhere) for value in found.values())
    agree(found, host)


@settings(max_examples=30, deadline=None)
@given(
    st.lists(
        st.lists(st.lists(st.integers(1, 9), min_size=1, unique=True), min_size=1, max_size=3), min_size=1, max_size=4
    ),
    st.sampled_from(["adam", "rowwise-adagrad"]),
)
def test_any_lookups_of_a_step_move_each_row_once(steps: Steps, kind: str) -> None:
    agree(learned(DeviceTable(table(kind), HERE), kind, steps), learned(table(kind), kind, steps))


@pytest.mark.parametrize("kind", TABLES)
def test_a_run_goes_on_with_its_rows_elsewhere_and_here(kind: str) -> None:
    steps: Steps = [[[1, 2, 700]], [[2, 3], [3, 1]], [[700, 3]]]
    whole = learned(table(kind), kind, steps)
    for first, then in ((table(kind), DeviceTable(table(kind), HERE)), (DeviceTable(table(kind), HERE), table(kind))):
        state = learned(first, kind, steps[:2])
        then.load_state(state)
        agree(learned(then, kind, steps, begin=2), whole)


def test_rows_are_peeked_counted_and_taken_from_the_host() -> None:
    with another_device() as device:
        far, host = DeviceTable(table("adam"), device), table("adam")
        ids = torch.tensor([0, 5, 2])
        assert torch.equal(far.peek(ids), host.peek(ids)) and far.seen(3).tolist() == [0, 0, 0]
        values = torch.randn(2, far.width)
        for one in (far, host):
            one.take_rows(ids[1:], values)
        assert torch.equal(far.peek(ids), host.peek(ids)) and far.seen(6).tolist() == [0, 0, 1, 0, 0, 1]
        assert far.touched == 2
        far.update(torch.tensor([2]), torch.ones(1, far.width))
        host.update(torch.tensor([2]), torch.ones(1, far.width))
        agree(far.state(), host.state())


def test_ids_that_were_sent_ahead_are_not_sent_again() -> None:
    """Those of this very look-up; others are sent as ever."""
    with another_device() as device:
        far, host = DeviceTable(table("adam"), device), table("adam")
        ids, others = torch.tensor([0, 5, 2]), torch.tensor([0, 7])
        there = ids.to(device)
        far.know([(ids, there)])
        assert torch.equal(far(ids).detach().cpu(), host.peek(ids)) and far._live[0][0] is there
        assert torch.equal(far(others).detach().cpu(), host.peek(others)) and far._live[1][0] is not there


def test_every_table_of_a_network_moves() -> None:
    net = make_net("din")
    before = [found.settings for found in table_modules(net)]
    replace_tables(net, lambda table: DeviceTable(table, HERE))
    assert [found.settings for found in table_modules(net)] == before
    assert all(isinstance(found, DeviceTable) for found in table_modules(net))


def test_a_table_that_outgrows_the_device_names_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    far = DeviceTable(table("adam"), HERE)

    def full(_rows: GrowableTable, _count: int) -> None:
        raise torch.OutOfMemoryError("full")

    monkeypatch.setattr(GrowableTable, "_grow", full)
    with pytest.raises(UserError, match="5,001 rows of width 5 .* set tables: host"):
        far(torch.tensor([0, 5000]))


def test_bytes_are_those_of_the_tensors() -> None:
    for kind in ("adam", "rowwise-adagrad"):
        far = DeviceTable(table(kind), HERE)
        parts = [far._weight, far._first, far._second, far._steps, far._frozen, far._place]
        assert bytes_of(far, len(far._weight)) == sum(part.numel() * part.element_size() for part in parts)


def test_kernels_are_for_cuda() -> None:
    assert not serves(HERE, 4) and not serves(torch.device("cuda"), 5000)


def checked(interpret: str, *words: str, **extra: str) -> str:
    """Run the checks in a process of their own: whether kernels are interpreted is decided when triton is imported."""
    call = [sys.executable, "-m", "pytest", "tests/support/triton_row_checks.py", "-p", "no:cacheprovider", *words]
    done = subprocess.run(
        call, capture_output=True, text=True, cwd=ROOT, env={**os.environ, "TRITON_INTERPRET": interpret, **extra}
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.mark.long
@needs("triton")
def test_the_kernels_learn_what_the_host_learns() -> None:
    assert " passed" in checked("1", "-k", "learn", "-v")


@pytest.mark.long
@needs("triton")
def test_the_kernels_compile(tmp_path: Path) -> None:
    assert " passed" in checked("0", "-k", "compile", "-v", TRITON_CACHE_DIR=str(tmp_path))

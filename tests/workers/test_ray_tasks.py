"""Parts as Ray tasks: the outcome, the errors and the losses are those of local processes."""

from __future__ import annotations

import os
import sys
from functools import partial
from pathlib import Path

import pytest

from recdistill.errors import RecdistillError, UserError
from recdistill.tables.validation import RowError
from recdistill.workers.ledger import ATTEMPTS
from recdistill.workers.parts import Workers, in_parts
from tests.support.part_work import doubled, folder_of, killed_at_first, refused_from, where
from tests.support.programs import needs

RAY = Workers(2, "ray")


def test_without_ray_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(
        UserError, match=r"^workers.engine: ray is not installed; run: pip install 'recdistill\[ray\]'$"
    ):
        list(in_parts(doubled, range(4), RAY))


@needs("ray")
def test_a_cluster_that_is_not_there_is_refused_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    with pytest.raises(UserError, match=r"^workers.engine: no Ray cluster at 127.0.0.1:1: [^\n]*$"):
        list(in_parts(doubled, range(4), RAY))


@needs("ray")
@pytest.mark.long
def test_parts_are_tasks_of_a_ray_of_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    try:
        assert list(in_parts(doubled, range(20), RAY)) == [2 * part for part in range(20)]
        assert os.getpid() not in set(in_parts(where, range(6), RAY))
        _fails_as_processes_do()
        _survives_lost_workers(tmp_path)
        monkeypatch.chdir(tmp_path)
        assert set(in_parts(folder_of, range(4), RAY)) == {str(tmp_path)}
    finally:
        ray.shutdown()


def _fails_as_processes_do() -> None:
    done = []
    with pytest.raises(RowError) as wrong:
        for part in in_parts(partial(refused_from, 5), range(9), RAY):
            done.append(part)
    assert done == [0, 1, 2, 3, 4] and str(wrong.value) == "file 5: row 5, is odd"
    assert (wrong.value.row, wrong.value.problem) == (5, "is odd")


def _survives_lost_workers(folder: Path) -> None:
    for times in (ATTEMPTS - 1, 99):
        (folder / str(times)).mkdir()
    found = in_parts(partial(killed_at_first, folder / str(ATTEMPTS - 1), ATTEMPTS - 1), range(6), RAY)
    assert list(found) == list(range(6))
    with pytest.raises(RecdistillError) as lost:
        list(in_parts(partial(killed_at_first, folder / "99", 99), range(6), RAY))
    assert str(lost.value).startswith(f"3: its worker was lost {ATTEMPTS} times (WorkerCrashedError; out of memory?)")
    assert len(list((folder / "99").iterdir())) == ATTEMPTS

"""Where a model's rows may lie, and that a learner with its rows on a device learns what one with the host's does."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from recdistill.config.load import load_text
from recdistill.config.models import StudentConfig
from recdistill.distributed.ranks import ALONE
from recdistill.errors import UserError
from recdistill.models.embeddings.growable import GrowableTable
from recdistill.models.embeddings.on_device import DeviceTable, bytes_of
from recdistill.models.factory import table_modules
from recdistill.runs.jobs import jobs_by_name
from recdistill.train import table_home
from recdistill.train.build import check_models
from recdistill.train.table_home import at_home, check_home, kept_by_host
from tests.support.batches import make_net
from tests.support.pretended_device import another_device

CUDA = torch.device("cuda")
IDS = {"users": 100, "items": 1000, "context": 10}
PRUNED = {"prune": {"from": {"hidden": [16]}}}


def config(tables: str = "device", **keys: Any) -> StudentConfig:
    return StudentConfig.model_validate({"tables": tables, **keys})


@pytest.mark.parametrize(
    ("keys", "device", "ranks", "reason"),
    [
        ({}, torch.device("cpu"), 1, "needs a CUDA device"),
        ({}, CUDA, 2, "is for one process"),
        ({"rows": {"most": 64}}, CUDA, 1, "without a bound"),
        (PRUNED, CUDA, 1, "keeps its widths"),
        ({"start_from": "other/models/light"}, CUDA, 1, "begins from nothing"),
        ({"distill": {"warm_start": {}}}, CUDA, 1, "begins from nothing"),
    ],
)
def test_rows_that_cannot_lie_on_a_device_are_refused(
    keys: dict[str, Any], device: torch.device, ranks: int, reason: str
) -> None:
    with pytest.raises(UserError, match=f"light: tables: device .*{reason}.*; set tables: host, or auto"):
        check_home("light", config(**keys), device, ranks)
    check_home("light", config("auto", **keys), device, ranks)
    assert kept_by_host(config(**keys), device, ranks) is not None


def test_it_is_refused_before_anything_is_read() -> None:
    experiment = load_text("{name: there, data: {}, teacher: {device: cpu, tables: device}}")
    with pytest.raises(UserError, match="teacher: tables: device needs a CUDA device"):
        check_models(experiment)


@pytest.mark.parametrize(
    ("tables", "free", "moved"),
    [("host", 1 << 40, False), ("device", 0, True), ("auto", 1 << 40, True), ("auto", 1000, False)],
)
def test_auto_moves_rows_that_fit(monkeypatch: pytest.MonkeyPatch, tables: str, free: int, moved: bool) -> None:
    monkeypatch.setattr(table_home, "_free", lambda _device: free)
    with another_device() as device:
        net = make_net("din")
        at_home("light", net, config(tables), device, ALONE, IDS)
        assert all(isinstance(table, DeviceTable) == moved for table in table_modules(net))


def test_what_is_needed_is_a_row_per_id_of_each_table() -> None:
    net = make_net("target-attention")
    sizes = {"user": 100, "context": 10, "item": 1000, "past": 1000, "bias": 1000}
    tables: list[GrowableTable] = table_modules(net)
    assert {table.name for table in tables} <= sizes.keys()
    assert table_home._needed(net, IDS) == sum(bytes_of(table, sizes[table.name]) for table in tables)


def test_a_run_may_go_on_with_its_rows_elsewhere() -> None:
    one, other = (
        jobs_by_name(load_text(f"{{name: x, data: {{}}, teacher: {{tables: {tables}}}}}"))["teacher"]
        for tables in ("host", "auto")
    )
    assert one.run == other.run

"""Where a model's rows may lie, and that a learner with its rows on a device learns what one with the host's does."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from recdistill.config.load import load_text
from recdistill.config.models import StudentConfig
from recdistill.distributed.ranks import ALONE, Ranks
from recdistill.errors import UserError
from recdistill.models.embeddings.cached import CachedTable
from recdistill.models.embeddings.fbgemm_rows import FbgemmTable
from recdistill.models.embeddings.growable import GrowableTable
from recdistill.models.embeddings.on_device import DeviceTable, bytes_of
from recdistill.models.embeddings.sharded import ShardedTable, spread_tables
from recdistill.models.factory import table_modules
from recdistill.runs.jobs import jobs_by_name
from recdistill.train import table_home
from recdistill.train.build import check_models
from recdistill.train.table_home import at_home, check_home, kept_by_host
from tests.support.batches import make_net
from tests.support.pretended_device import another_device
from tests.support.programs import needs

CUDA = torch.device("cuda")
IDS = {"users": 100, "items": 1000, "context": 10}
FUSED = {"embeddings": "torchrec", "optimiser": "rowwise-adagrad"}
PRUNED = {"prune": {"from": {"hidden": [16]}}}


def config(tables: str = "device", **keys: Any) -> StudentConfig:
    return StudentConfig.model_validate({"tables": tables, **keys})


@pytest.mark.parametrize(
    ("keys", "device", "reason"),
    [
        ({}, torch.device("cpu"), "needs a CUDA device"),
        ({"rows": {"most": 64}}, CUDA, "without a bound"),
        (PRUNED, CUDA, "keeps its widths"),
        ({"start_from": "other/models/light"}, CUDA, "begins from nothing"),
        ({"distill": {"warm_start": {}}}, CUDA, "begins from nothing"),
    ],
)
def test_rows_that_cannot_lie_on_a_device_are_refused(keys: dict[str, Any], device: torch.device, reason: str) -> None:
    with pytest.raises(UserError, match=f"light: tables: device .*{reason}.*; set tables: host, or auto"):
        check_home("light", config(**keys), device)
    check_home("light", config("auto", **keys), device)
    assert kept_by_host(config(**keys), device) is not None
    if device == CUDA:
        with pytest.raises(UserError, match=f"light: embeddings: torchrec .*{reason}.*; set embeddings: own"):
            check_home("light", config("auto", **keys, **FUSED), device)


def test_it_is_refused_before_anything_is_read() -> None:
    experiment = load_text("{name: there, data: {}, teacher: {device: cpu, tables: device}}")
    with pytest.raises(UserError, match="teacher: tables: device needs a CUDA device"):
        check_models(experiment)


@pytest.mark.parametrize(
    ("tables", "free", "moved"),
    [("host", 1 << 40, False), ("device", 0, True), ("auto", 1 << 40, True)],
)
def test_auto_moves_rows_that_fit(monkeypatch: pytest.MonkeyPatch, tables: str, free: int, moved: bool) -> None:
    monkeypatch.setattr(table_home, "_free", lambda _device: free)
    with another_device() as device:
        net = make_net("din")
        at_home("light", net, config(tables), device, ALONE, IDS)
        assert all(isinstance(table, DeviceTable) == moved for table in table_modules(net))


def test_of_rows_that_do_not_fit_as_many_lie_on_the_device_as_there_is_room_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(table_home, "_free", lambda _device: table_home._needed(make_net("din"), IDS))
    with another_device() as device:
        net = make_net("din")
        at_home("light", net, config("auto"), device, ALONE, IDS)
        sizes = {table.name: table.places for table in table_modules(net) if isinstance(table, CachedTable)}
        assert sizes == {"user": 50, "context": 5, "item": 500}


@pytest.mark.parametrize(("size", "moved"), [(2, True), (1, False)])
def test_each_rank_has_its_share_on_its_device(monkeypatch: pytest.MonkeyPatch, size: int, moved: bool) -> None:
    monkeypatch.setattr(table_home, "_free", lambda _device: table_home._needed(make_net("din"), IDS))
    with another_device() as device:
        net, ranks = make_net("din"), Ranks(0, 2)
        spread_tables(net, ranks)
        at_home("light", net, config("auto"), device, ranks, {name: 2 * count // size for name, count in IDS.items()})
        for table in table_modules(net):
            assert isinstance(table, ShardedTable) and isinstance(table.owned, DeviceTable) == moved


@needs("fbgemm_gpu")
def test_fbgemm_holds_the_tables_that_it_can() -> None:
    net, cpu = make_net("target-attention"), torch.device("cpu")
    at_home("light", net, config("host", **FUSED), cpu, ALONE, IDS)
    assert {(isinstance(table, FbgemmTable), table.width % 4 == 0) for table in table_modules(net)} == {
        (True, True),
        (False, False),
    }
    net = make_net("din")
    spread_tables(net, Ranks(0, 2))
    at_home("light", net, config("host", **FUSED), cpu, Ranks(0, 2), IDS)
    assert all(isinstance(table, ShardedTable) and isinstance(table.owned, FbgemmTable) for table in table_modules(net))


def test_fbgemms_adam_is_refused_where_the_experiment_is_read() -> None:
    with pytest.raises(UserError, match="embeddings: torchrec moves rows by row-wise Adagrad alone; set optimiser"):
        load_text("{name: there, data: {}, teacher: {embeddings: torchrec}}")


def test_what_is_needed_is_a_row_per_id_of_each_table() -> None:
    net = make_net("target-attention")
    sizes = {"user": 100, "context": 10, "item": 1000, "past": 1000, "bias": 1000}
    tables: list[GrowableTable] = table_modules(net)
    assert {table.name for table in tables} <= sizes.keys()
    assert table_home._needed(net, IDS) == sum(bytes_of(table, sizes[table.name]) for table in tables)


def test_a_run_may_go_on_with_its_rows_elsewhere() -> None:
    """And be held by others there."""
    more = "tables: host", "tables: auto", "embeddings: torchrec"
    jobs = [
        jobs_by_name(load_text(f"{{name: x, data: {{}}, teacher: {{optimiser: rowwise-adagrad, {key}}}}}"))["teacher"]
        for key in more
    ]
    assert len({job.run for job in jobs}) == 1

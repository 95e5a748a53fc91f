"""Where a model's embedding rows lie, with the host or in the memory of the device that computes, and whose kernels
move them.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from recdistill.compress.plan import changes_width
from recdistill.config.models import ModelConfig, StudentConfig
from recdistill.distributed.ranks import Ranks
from recdistill.errors import UserError
from recdistill.models.embeddings.cached import CachedTable
from recdistill.models.embeddings.fbgemm_rows import FbgemmTable, check_fbgemm, holds
from recdistill.models.embeddings.growable import GrowableTable, replace_tables
from recdistill.models.embeddings.on_device import DeviceTable, bytes_of
from recdistill.models.embeddings.sharded import ShardedTable
from recdistill.models.factory import table_modules
from recdistill.train.start_from import VOCABULARY

__all__ = ["SHARE", "at_home", "check_home", "kept_by_host"]

HOST = torch.device("cpu")
SHARE = 0.5  # of the device's free memory that rows may take: the log's ids grow, and a step needs the rest


def _special(config: ModelConfig) -> str | None:
    """Return what, but for the host's own tables, no table can do for a model, None for nothing."""
    if config.rows is not None:
        return "is for tables without a bound on their rows"
    if isinstance(config, StudentConfig) and (config.start_from or config.distill.warm_start):
        return "is for a model that begins from nothing"
    return "is for a model that keeps its widths" if changes_width(config) else None


def kept_by_host(config: ModelConfig, device: torch.device) -> str | None:
    """Return why the rows must stay with the host, None where they may lie on the device."""
    return "needs a CUDA device to compute on" if device.type == "cpu" else _special(config)


def check_home(name: str, config: ModelConfig, device: torch.device) -> None:
    """Raise UserError, beginning with the model's name, where its rows are to lie, or to be moved by kernels, where
    they cannot.
    """
    reason = kept_by_host(config, device)
    if config.tables == "device" and reason is not None:
        raise UserError(f"{name}: tables: device {reason}; set tables: host, or auto")
    if config.embeddings == "own":
        return
    if (reason := _special(config)) is not None:
        raise UserError(f"{name}: embeddings: torchrec {reason}; set embeddings: own")
    check_fbgemm()


def _ids_of(table: GrowableTable, ids: Mapping[str, int]) -> int:
    """Return how many ids may look a row of a table up, of the number of users, items and context."""
    return ids[VOCABULARY.get(table.name, "context")]


def _needed(network: nn.Module, ids: Mapping[str, int]) -> int:
    """Return the bytes of a row for each id of users, items and context."""
    return sum(bytes_of(table, _ids_of(table, ids)) for table in table_modules(network))


def at_home(
    name: str, network: nn.Module, config: ModelConfig, device: torch.device, ranks: Ranks, ids: Mapping[str, int]
) -> None:
    """Move the rows of a new network to the device that computes, where the configuration wants them there and they
    can be, and let the kernels hold them that it names. auto: where there is room for this rank's rows of all ids, by
    `ids`: of users, items and context, for auto alone; else for as many as there is room for, of one process.
    """
    check_home(name, config, device)
    there, fused = config.tables != "host" and kept_by_host(config, device) is None, config.embeddings == "torchrec"
    needed = _needed(network, ids) / ranks.size if there and config.tables == "auto" else 0.0
    room = SHARE * _free(device) if needed else 0.0
    if needed <= room:
        _place(network, device if there else HOST, fused)
    elif ranks.size > 1 or fused:
        _place(network, HOST, fused)
    else:
        replace_tables(network, lambda table: CachedTable(table, device, int(room / needed * _ids_of(table, ids))))


def _place(network: nn.Module, home: torch.device, fused: bool) -> None:
    """Let all rows lie on `home`; fused: held by FBGEMM, where it can."""
    if fused or home != HOST:
        replace_tables(network, lambda table: _placed(table, home, fused and holds(table.width)))


def _placed(table: GrowableTable, home: torch.device, fused: bool) -> GrowableTable:
    if not fused and home == HOST:
        return table
    if isinstance(table, ShardedTable):
        table.lie_on(home, fused)
        return table
    return (FbgemmTable if fused else DeviceTable)(table, home)


def _free(device: torch.device) -> int:
    """Return the bytes of a CUDA device that are free."""
    return torch.cuda.mem_get_info(device)[0]

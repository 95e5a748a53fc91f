"""Where a model's embedding rows lie: with the host, or in the memory of the device that computes."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from recdistill.compress.plan import changes_width
from recdistill.config.models import ModelConfig, StudentConfig
from recdistill.distributed.ranks import Ranks
from recdistill.errors import UserError
from recdistill.models.embeddings.on_device import bytes_of, tables_on
from recdistill.models.factory import table_modules
from recdistill.train.start_from import VOCABULARY

__all__ = ["SHARE", "at_home", "check_home", "kept_by_host"]

SHARE = 0.5  # of the device's free memory that rows may take: the log's ids grow, and a step needs the rest


def kept_by_host(config: ModelConfig, device: torch.device, ranks: int) -> str | None:
    """Return why the rows must stay with the host, None where they may lie on the device."""
    if device.type == "cpu":
        return "needs a CUDA device to compute on"
    if ranks > 1:
        return "is for one process: ranks share out rows in their hosts' memory"
    if config.rows is not None:
        return "is for tables without a bound on their rows"
    if isinstance(config, StudentConfig) and (config.start_from or config.distill.warm_start):
        return "is for a model that begins from nothing"
    return "is for a model that keeps its widths" if changes_width(config) else None


def check_home(name: str, config: ModelConfig, device: torch.device, ranks: int = 1) -> None:
    """Raise UserError, beginning with the model's name, where its rows are to lie where they cannot."""
    reason = kept_by_host(config, device, ranks)
    if config.tables == "device" and reason is not None:
        raise UserError(f"{name}: tables: device {reason}; set tables: host, or auto")


def _needed(network: nn.Module, ids: Mapping[str, int]) -> int:
    """Return the bytes of a row for each id of users, items and context."""
    return sum(bytes_of(table, ids[VOCABULARY.get(table.name, "context")]) for table in table_modules(network))


def at_home(
    name: str, network: nn.Module, config: ModelConfig, device: torch.device, ranks: Ranks, ids: Mapping[str, int]
) -> None:
    """Move the rows of a new network to the device that computes, where the configuration wants them there and they
    can be; auto: where there is room for a row per id, by `ids`: of users, items and context, for auto alone.
    """
    check_home(name, config, device, ranks.size)
    if config.tables == "host" or kept_by_host(config, device, ranks.size) is not None:
        return
    if config.tables == "device" or _needed(network, ids) <= SHARE * _free(device):
        tables_on(network, device)


def _free(device: torch.device) -> int:
    """Return the bytes of a CUDA device that are free."""
    return torch.cuda.mem_get_info(device)[0]

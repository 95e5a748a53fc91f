"""A model from its configuration, before there is a log to train it on: built, counted, and held against
the memory there is.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import nn

from recdistill.config.models import ModelConfig, TeacherConfig
from recdistill.config.presets import presets
from recdistill.data.batch.extras import NO_EXTRAS, Extras
from recdistill.data.store.encoder import MAX_ACTIONS
from recdistill.errors import UserError
from recdistill.models.attention.float8 import check_float8
from recdistill.models.backbones.sequence import SequenceBackbone
from recdistill.models.backbones.token_mixer import TokenMixer
from recdistill.models.embeddings.growable import TableOptions
from recdistill.models.factory import build_backbone, dense_parameters
from recdistill.models.layers.device import device_of
from recdistill.models.layers.experts import ReLUExperts

__all__ = [
    "DENSE_BYTES",
    "MAX_ACTIONS",
    "available_memory",
    "backbone_of",
    "check_actions",
    "check_device",
    "check_fits",
    "check_tokens",
    "countable",
    "unallocated",
]

DENSE_BYTES = 16  # per dense parameter that learns: float32 weight, gradient, two moments
HOST = torch.device("cpu")


def backbone_of(
    config: ModelConfig, seed: int, fields: int, slots: int, actions: int, extras: Extras = NO_EXTRAS
) -> nn.Module:
    """Return a model's backbone; its dense weights come from torch's generator, its tables from the seed."""
    return build_backbone(
        config.kind,
        width=config.width,
        fields=fields,
        slots=slots,
        actions=actions,
        length=config.history,
        tables=TableOptions(seed, config.table_rate, config.optimiser),
        options=dict(config.options),
        extras=extras,
    )


def countable(config: ModelConfig, fields: int, slots: int, actions: int, extras: Extras = NO_EXTRAS) -> nn.Module:
    """Return a backbone for `cost_of`: on the meta device where it can be counted there; the others, usually small, are
    built.

    Raises UserError for one of those that is larger than the memory there is.
    """
    with torch.device("meta"):
        backbone = backbone_of(config, 0, fields, slots, actions, extras)
    if not isinstance(backbone, SequenceBackbone):
        check_fits(config.kind, dense_parameters(backbone))
    on_meta = isinstance(backbone, SequenceBackbone)
    return backbone if on_meta else backbone_of(config, 0, fields, slots, actions, extras)


def check_actions(configs: Mapping[str, ModelConfig], actions: int) -> None:
    """Raise UserError for a model that names an action which a log of `actions` types does not have; no weight is
    allocated.

    Before there is a log, models are built for MAX_ACTIONS: more than that no log has.
    """
    for name, config in configs.items():
        unallocated(name, config, actions)


def unallocated(name: str, config: ModelConfig, actions: int = MAX_ACTIONS) -> nn.Module:
    """Return a model's backbone on the meta device; UserError, beginning with its name, when it cannot be built."""
    try:
        with torch.device("meta"):
            return backbone_of(config, 0, fields=1, slots=1, actions=actions)
    except UserError as error:
        raise UserError(f"{name}: {error}") from None


def check_device(name: str, config: ModelConfig) -> torch.device:
    """Return the device that a model will compute on here; UserError, beginning with its name, when that cannot be."""
    try:
        device = device_of(config.device)
        if config.options.get("precision") == "float8":
            check_float8(device)
    except UserError as error:
        raise UserError(f"{name}: {error}") from None
    return device


def check_tokens(name: str, config: ModelConfig, ranks: int) -> None:
    """Raise UserError for a model whose layers so many ranks cannot share by tokens; no weight is allocated."""
    body = getattr(unallocated(name, config), "body", None)
    if not isinstance(body, TokenMixer):
        raise UserError(f"{name}: --tensor is for token mixers, and kind {config.kind} has none; leave it out")
    if any(isinstance(part, ReLUExperts) for part in body.modules()):
        raise UserError(f"{name}: --tensor is not for variant rankmixer with experts; leave one of them out")
    both = math.gcd(body.tokens, body.heads)
    if both % ranks:
        may = ", ".join(str(number) for number in range(1, both + 1) if both % number == 0)
        raise UserError(
            f"{name}: --tensor {ranks} must divide its {body.tokens} tokens and {body.heads} heads; give one of {may}"
        )


def check_fits(name: str, dense: int, device: torch.device = HOST) -> None:
    """Raise UserError when weights, gradients and Adam's moments of so many parameters are more than the
    memory that a device has free.
    """
    have = available_memory() if device.type == "cpu" else torch.cuda.mem_get_info(device)[0]
    if DENSE_BYTES * dense > have:
        fitting = [preset for preset in presets() if DENSE_BYTES * _preset_size(preset) <= have]
        need = f"{DENSE_BYTES * dense / 2**30:,.1f} GiB to learn, {have / 2**30:,.1f} are free here"
        largest = max(fitting, key=_preset_size, default="none")
        raise UserError(
            f"{name}: its {dense:,} dense parameters need {need}; the largest preset that fits is {largest}; "
            "for more machines, see: recdistill plan"
        )


def _preset_size(name: str) -> int:
    with torch.device("meta"):
        return dense_parameters(
            backbone_of(TeacherConfig.model_validate(presets()[name]), 0, fields=1, slots=1, actions=1)
        )


def available_memory() -> int:
    """Return the bytes that a new process may still take."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")

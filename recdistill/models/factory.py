"""Networks only, no I/O: growable tables, backbones from a `Batch` to [B, output_width], towers on top of them."""

from __future__ import annotations

import inspect
from typing import Any

from torch import nn

from recdistill.data.batch.extras import NO_EXTRAS, Extras
from recdistill.errors import UserError, did_you_mean
from recdistill.models.backbones.dcn import DCNv2
from recdistill.models.backbones.din import DIN
from recdistill.models.backbones.mlp import PooledMLP
from recdistill.models.backbones.sequence import HSTU, Longer, TokenMixerModel, Transformer
from recdistill.models.backbones.target_attention import TargetAttention
from recdistill.models.embeddings.growable import GrowableTable, TableOptions
from recdistill.models.heads import Towers
from recdistill.models.layers.blocks import width_of
from recdistill.models.layers.options import checked_options
from recdistill.models.user_models import import_model, is_user_model

__all__ = [
    "BACKBONES",
    "REVISION",
    "DIN",
    "HSTU",
    "DCNv2",
    "GrowableTable",
    "PooledMLP",
    "TableOptions",
    "TargetAttention",
    "Towers",
    "build_backbone",
    "dense_parameters",
    "named_tables",
    "network_class",
    "sparse_parameters",
    "table_modules",
]

REVISION = 6  # of what a checkpoint holds and what its weights mean; 6: values, sequences and vectors are read
BACKBONES: dict[str, type[nn.Module]] = {
    "pooled-mlp": PooledMLP,
    "dcn-v2": DCNv2,
    "din": DIN,
    "target-attention": TargetAttention,
    "hstu": HSTU,
    "transformer": Transformer,
    "longer": Longer,
    "token-mixer": TokenMixerModel,
}


def build_backbone(
    kind: str,
    *,
    width: int,
    fields: int,
    slots: int,
    actions: int,
    length: int,
    tables: TableOptions,
    options: dict[str, Any],
    extras: Extras = NO_EXTRAS,
) -> nn.Module:
    """Return a backbone of BACKBONES, or of the user's own class; fields F, slots M, actions A as in `Batch`, length =
    most events it will see, extras: see there.

    `options` are the class's own keyword arguments; of the others it is given those that its constructor names. Dense
    weights come from torch's global generator: seed it first. UserError for an unknown kind, an unknown option, or one
    whose value the class cannot be built with.
    """
    network = network_class(kind)
    given: dict[str, Any] = {
        "width": width,
        "fields": fields,
        "slots": slots,
        "actions": actions,
        "length": length,
        "tables": tables,
        "extras": extras,
    }
    chosen = checked_options(kind, network, options, given)
    accepted = inspect.signature(network).parameters
    shape = {name: value for name, value in given.items() if name in accepted}
    return _built(kind, network, {**shape, **chosen})


def network_class(kind: str) -> type[nn.Module]:
    """Return the class of a kind: one of BACKBONES, or the user's own as `package.module:Class`; UserError
    for others.
    """
    if kind in BACKBONES:
        return BACKBONES[kind]
    if is_user_model(kind):
        return import_model(kind)
    raise UserError(
        f"model kind {kind!r} is not known{did_you_mean(kind, BACKBONES)}; your own is package.module:Class"
    )


def _built(kind: str, network: type[nn.Module], arguments: dict[str, Any]) -> nn.Module:
    if not is_user_model(kind):
        return network(**arguments)
    try:
        built = network(**arguments)
    except Exception as error:  # noqa: BLE001 - a user's constructor may raise anything
        raise UserError(f"model kind {kind!r}: it cannot be built: {type(error).__name__}: {error}") from error
    width_of(built)
    return built


def table_modules(module: nn.Module) -> list[GrowableTable]:
    """Return every table inside, in the order of construction."""
    return [part for part in module.modules() if isinstance(part, GrowableTable)]


def named_tables(module: nn.Module) -> dict[str, GrowableTable]:
    """Return every table inside by its name, in the order of construction."""
    return {name: part for name, part in module.named_modules() if isinstance(part, GrowableTable)}


def dense_parameters(module: nn.Module) -> int:
    """Return how many numbers the dense part learns."""
    return sum(parameter.numel() for parameter in module.parameters())


def sparse_parameters(module: nn.Module) -> int:
    """Return how many numbers the rows that have learned something hold."""
    return sum(table.numbers for table in table_modules(module))

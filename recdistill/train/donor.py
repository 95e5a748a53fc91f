"""A trained model that another one begins from: its rows by the names of its tables, read when they are asked for."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import EllipsisType

import torch
from torch import Tensor, nn

from recdistill.checkpoint.sharded_tensors import Stored
from recdistill.checkpoint.store import Checkpoints
from recdistill.config.models import ModelConfig
from recdistill.distributed.ranks import Ranks, Rows
from recdistill.errors import UserError
from recdistill.models.factory import table_modules

__all__ = ["Donor", "DonorRows", "check_donor", "check_there"]

MAIN = re.compile(r"^aux\.")
OPTIONAL = ("aux.", "adapted.", "reader.", "extra.")  # parts that a teacher or an older student may not have
PIECE = 1 << 16  # rows that are in memory at a time


def check_donor(key: str, owner: str, config: ModelConfig) -> None:
    """Raise UserError, which begins with `key`, for a model whose rows are not those of the same ids all the time."""
    if config.rows is not None:
        raise UserError(
            f"{key}: {owner} has bounded rows, which belong to other ids from time to time; leave rows out there"
        )


def check_there(checkpoints: Checkpoints, block: int, name: str) -> None:
    """Raise UserError where the model `name` has not the checkpoint of a block any more, or it is damaged."""
    if block not in checkpoints.blocks():
        raise UserError(
            f"{name}: was trained before anything was to begin from it, and its checkpoint {block} is gone; train "
            "it in a new folder, together with the student"
        )
    if not checkpoints.whole(block):
        raise UserError(f"{checkpoints.path(block)}: damaged; train {name} in a new folder")


@dataclass(frozen=True)
class DonorRows:
    """The rows of one table that have learned something: rows int64 [n], weight float32 [n, width]."""

    rows: Stored
    weight: Stored

    @property
    def width(self) -> int:
        """Return the width of a row."""
        return self.weight.shape[1]

    def __len__(self) -> int:
        """Return the number of rows."""
        return self.rows.shape[0]

    def pieces(self, ranks: Ranks) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield (rows, weight), piece by piece, of those that are this rank's (see `ShardedTable`)."""
        for low in range(0, len(self), PIECE):
            rows = self.rows[low : low + PIECE]
            mine = ranks.owns(rows)
            yield rows[mine], self.weight[low : low + PIECE][mine]


@dataclass(frozen=True)
class _Picked:
    """The rows of a tensor at these places, int64 [n], ascending; read when they are asked for."""

    values: Rows
    at: Tensor

    @property
    def shape(self) -> torch.Size:
        return torch.Size([len(self.at), *self.values.shape[1:]])

    def __getitem__(self, rows: slice | EllipsisType) -> Tensor:
        at = self.at if rows is ... else self.at[rows]
        low, high = (int(at[0]), int(at[-1]) + 1) if len(at) else (0, 0)
        return self.values[low:high][at - low]


@dataclass(frozen=True)
class Donor:
    """config: with the widths that it had there; tensors: of a learner's checkpoint; tables: the names of its network's
    tables, in order.
    """

    name: str
    config: ModelConfig
    tensors: Mapping[str, Stored]
    tables: tuple[str, ...]

    @classmethod
    def at(cls, checkpoints: Checkpoints, block: int, name: str, config: ModelConfig, backbone: nn.Module) -> Donor:
        """Return the model as it was after a block; backbone: one like its own, of whatever widths.

        Raises UserError where that checkpoint is not there, or is damaged.
        """
        check_there(checkpoints, block, name)
        sizes = checkpoints.state(block)["learner"].get("resizer")
        now = config.model_copy(update={key: sizes[key] for key in ("width", "options")}) if sizes else config
        return cls(name, now, checkpoints.stored(block), tuple(table.name for table in table_modules(backbone)))

    def rows(self, table: str) -> DonorRows | None:
        """Return the rows of the first table of that name, None where there is none."""
        if table not in self.tables:
            return None
        place = f"table/{self.tables.index(table)}"
        return DonorRows(self.tensors[f"{place}/rows"], self.tensors[f"{place}/weight"])

    @property
    def learned(self) -> int:
        """Return how many rows of all its tables have learned something."""
        return sum(self.tensors[f"table/{at}/rows"].shape[0] for at in range(len(self.tables)))

    def load_into(self, network: nn.Module, ids: Mapping[str, Tensor] | None = None) -> None:
        """Give a network of its configuration its weights, and its rows: where tables are spread over ranks, this
        rank's. Where it has but a main tower, an auxiliary one begins as that; the other parts that only distilled
        students have stay as they were drawn.

        ids: by name of a table, int64 [V], which row each of its own becomes, 0 for none; None where they stay. Raises
        UserError where its network is another one.
        """
        found = {}
        for name, drawn in network.state_dict().items():
            value = self.tensors.get(f"network/{name}") or self.tensors.get(f"network/{MAIN.sub('main.', name)}")
            fits = value is not None and value.shape == drawn.shape
            if not fits and not name.startswith(OPTIONAL):
                raise UserError(
                    f"{self.name}: its network has no {name} of {tuple(drawn.shape)}; it is another network"
                )
            found[name] = value[...] if value is not None and fits else drawn
        network.load_state_dict(found)
        for at, table in enumerate(table_modules(network)):
            prefix = f"table/{at}/"
            state = {k.removeprefix(prefix): v for k, v in self.tensors.items() if k.startswith(prefix)}
            table.load_state(state if ids is None else _renumbered(state, ids[table.name]))


def _renumbered(state: Mapping[str, Rows], ids: Tensor) -> dict[str, Rows]:
    """Return a table's state whose rows are `ids` of those that they were, without those that become 0."""
    rows = ids[state["rows"][...]]
    there = rows.nonzero()[:, 0]
    return {name: _Picked(value, there) for name, value in state.items()} | {"rows": rows[there]}

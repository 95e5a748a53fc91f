"""A table that is made of others, its parts: those learn, and hold every row."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from recdistill.distributed.ranks import Rows
from recdistill.errors import UserError
from recdistill.models.embeddings.growable import GrowableTable

__all__ = ["ComposedTable"]


class ComposedTable(GrowableTable):
    """What tables of several parts have in common; a model uses one like the `table` it is made of, of which no row was
    looked up yet. parts: by name; the first one's is empty.
    """

    def __init__(self, table: GrowableTable, parts: Mapping[str, GrowableTable]) -> None:
        super().__init__(table.width, **table.settings)
        self.parts = dict(parts)  # a dict, so that torch does not register them: a network's tables are counted once

    def train(self, mode: bool = True) -> ComposedTable:
        """Let the rows that are looked up learn, or not."""
        super().train(mode)
        for part in self.parts.values():
            part.train(mode)
        return self

    @property
    def touched(self) -> int:
        """Return how many rows have learned something."""
        return sum(part.touched for part in self.parts.values())

    @property
    def numbers(self) -> int:
        """Return how many numbers those rows hold."""
        return sum(part.numbers for part in self.parts.values())

    def set_rate(self, rate: float, decay: float = 0.0) -> None:
        """Learn at another rate from the next step on."""
        super().set_rate(rate, decay)
        for part in self.parts.values():
            part.set_rate(rate, decay)

    def thaw(self) -> None:
        """Let every row learn again."""
        for part in self.parts.values():
            part.thaw()

    def take_columns(self, other: GrowableTable, columns: Tensor, share: Tensor | None, zero: bool) -> None:
        """Raise UserError: its columns are those of several parts."""
        raise UserError("rows that are bounded cannot change their width; leave out rows")

    def leaves(self) -> list[Tensor]:
        """Return the rows that were looked up since the last step."""
        return [leaf for part in self.parts.values() for leaf in part.leaves()]

    def gradients(self) -> list[Tensor]:
        """Return the gradients waiting for `step`."""
        return [gradient for part in self.parts.values() for gradient in part.gradients()]

    def clear(self) -> None:
        """Forget the lookups since the last step, and their gradients."""
        for part in self.parts.values():
            part.clear()

    def step(self) -> None:
        """Update every row looked up since the last step, once."""
        for part in self.parts.values():
            part.step()

    def state(self) -> dict[str, Tensor]:
        """Return the state of every part, its keys after its name and a point."""
        states = {name: part.state() for name, part in self.parts.items()}
        return {f"{name}.{key}" if name else key: value for name, of in states.items() for key, value in of.items()}

    def load_state(self, state: Mapping[str, Rows]) -> None:
        """Load a `state`; every other row is as new."""
        for name, part in self.parts.items():
            split = {key: key.rpartition(".") for key in state}
            part.load_state({key: state[whole] for whole, (of, _, key) in split.items() if of == name})

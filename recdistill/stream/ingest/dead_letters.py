"""Dead letters of a commit: what could not be taken, why, and enough of it to be mended and sent again."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime

import numpy as np
import polars as pl

from recdistill.stream.sources.wire import Message, Outgoing, encode
from recdistill.tables.dead_letters import COLUMNS, MAX_PAYLOAD
from recdistill.typing import Array

__all__ = ["DeadLetterBuffer"]


@dataclass
class DeadLetterBuffer:
    """The dead letters of one commit; below: those of messages before these positions are in the table already, from a
    run that was killed.
    """

    below: dict[str, int]
    rows: list[dict[str, object]] = field(default_factory=list)

    def add(self, message: Message, reason: str, rows: int, payload: bytes) -> None:
        """Add what is wrong with `rows` rows of a message."""
        if message.position >= self.below.get(message.partition, 0):
            self.rows.append(
                {
                    "time": datetime.now(UTC),
                    "source": message.partition,
                    "kind": message.kind,
                    "position": message.position,
                    "reason": reason,
                    "rows": rows,
                    "payload": payload[:MAX_PAYLOAD],
                }
            )

    def whole(self, message: Message, reason: str, rows: int) -> None:
        """Add a whole message."""
        self.add(
            message,
            reason,
            rows,
            message.payload if isinstance(message.payload, bytes) else _bytes(message, message.payload),
        )

    def some(self, messages: list[Message], rows: pl.DataFrame, origin: Array, reasons: pl.Series) -> None:
        """Add the rows with a reason; origin: int [n], the message that each row is of."""
        bad = pl.DataFrame({"origin": origin, "reason": reasons, "at": np.arange(len(rows))}).drop_nulls("reason")
        for (k, reason), mine in bad.group_by("origin", "reason", maintain_order=True):
            message = messages[int(str(k))]
            self.add(message, str(reason), len(mine), _bytes(message, rows[mine["at"]]))

    def frame(self) -> pl.DataFrame:
        """Return them as the table takes them."""
        rows = pl.DataFrame(self.rows, schema=COLUMNS)
        return rows.sort("source", "position", maintain_order=True)  # however micro-batches are cut


def _bytes(message: Message, rows: pl.DataFrame) -> bytes:
    """Return rows as an Arrow stream, as many of the first as may be kept."""
    while len(data := encode(Outgoing(-1, message.kind, rows), message.published)) > MAX_PAYLOAD and len(rows) > 1:
        rows = rows.head(len(rows) // 2)
    return data

"""What every source of rows does, and how it waits for a broker that is down."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Protocol

from recdistill.errors import UserError
from recdistill.stream.event_log import Journal
from recdistill.stream.sources.wire import Message, Outgoing
from recdistill.tables.schema import EventSchema

__all__ = ["MAX_BYTES", "Patience", "Source"]

MAX_BYTES = 64 << 20  # that one fetch gives at most, beyond its first message
PAUSE = 0.2  # seconds between two tries


class Source(Protocol):
    """An ordered channel in partitions. Offsets are the reader's own: nothing is kept in the broker about
    what was read.
    """

    def partitions(self) -> list[str]:
        """Return the names of the partitions that this reader is to read; UserError when the channel does not exist."""

    def fetch(self, offsets: dict[str, int], limit: int, seconds: float) -> list[Message]:
        """Return at most `limit` messages, in order per partition, none below `offsets` (partition -> position,
        missing: first).

        Waits up to `seconds` for the first. A broker that is down is waited for; UserError when it stays down or the
        channel does not exist.
        """

    def create(self, schema: EventSchema) -> None:
        """Make the channel for rows of `schema`, or leave the one there."""

    def resume(self) -> int:
        """Return the number of a replay's messages that are all there: its publisher goes on with this one."""

    def publish(self, messages: Sequence[Outgoing]) -> None:
        """Publish in order, once: what is there already is left out. Returns when the broker has them all."""

    def close(self) -> None:
        """Free connections."""


class Patience:
    """Waits for a broker: one line when it is lost and one when it is back; UserError after `seconds` without it."""

    def __init__(self, journal: Journal, where: str, seconds: float) -> None:
        self.journal, self.where, self.seconds = journal, where, seconds
        self._since: float | None = None

    @property
    def lost(self) -> bool:
        """Whether the last try failed."""
        return self._since is not None

    def failed(self, reason: str) -> None:
        """Count a failure and pause; UserError when they last too long."""
        now = time.monotonic()
        if self._since is None:
            self._since = now
            self.journal.write("waiting for the broker", url=self.where, reason=reason, at_most_s=self.seconds)
        if now - self._since >= self.seconds:
            raise UserError(
                f"{self.where}: the broker does not answer ({reason}) after {self.seconds:g} s; start it, or set "
                "stream.source.url (stream.patience_s: how long to wait)"
            )
        time.sleep(min(PAUSE, self.seconds))

    def worked(self) -> None:
        """Count a success."""
        if self._since is not None:
            self.journal.write("broker back", url=self.where, after_s=round(time.monotonic() - self._since, 1))
            self._since = None

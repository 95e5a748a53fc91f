"""Delta tables as a source, no server: a table per kind, a position is its version. Any tool may append to them."""

from __future__ import annotations

import time
from collections.abc import Sequence

import polars as pl

from recdistill.defaults import PUBLISHED
from recdistill.errors import UserError
from recdistill.storage.location import Location
from recdistill.stream.sources.base import MAX_BYTES
from recdistill.stream.sources.wire import KINDS, Kind, Message, Outgoing, published_at
from recdistill.tables.delta.commits import Commit, commits, newest_after, open_delta
from recdistill.tables.delta.files import read_parts
from recdistill.tables.delta.paths import is_table
from recdistill.tables.events import BehaviorLog, EventLog, OutcomeLog
from recdistill.tables.schema import EventSchema

__all__ = ["TableSource"]

END = "recdistill.end"
LOGS: dict[Kind, type[EventLog] | type[BehaviorLog] | type[OutcomeLog]] = {
    "events": EventLog,
    "behaviors": BehaviorLog,
    "outcomes": OutcomeLog,
}
POLL = 0.05  # seconds between two looks
WRITER = "publish"


class TableSource:
    """Folder with Delta tables events, behaviors and outcomes; those there are read, events must be.

    Behaviors and outcomes that were there before an events commit was seen are given before it.
    """

    def __init__(self, folder: Location) -> None:
        self.folder = folder
        self._newest: dict[str, int] = {}
        # By table: the reader's offset, and the version up to which nothing follows it.
        self._empty: dict[str, tuple[int, int]] = {}

    def partitions(self) -> list[str]:
        """Return the kinds that have a table."""
        if not self._exists("events"):
            raise UserError(
                f"{self.folder / 'events'}: no table there; publish into it first, or set stream.source.path"
            )
        return [kind for kind in KINDS if self._exists(kind)]

    def _exists(self, kind: Kind) -> bool:
        return is_table(self.folder / kind)

    def fetch(self, offsets: dict[str, int], limit: int, seconds: float) -> list[Message]:
        """See Source.fetch."""
        until = time.monotonic() + seconds
        while not (found := self._there(offsets, limit)) and time.monotonic() < until:
            time.sleep(min(POLL, seconds))
        return found

    def _there(self, offsets: dict[str, int], limit: int) -> list[Message]:
        kinds = self.partitions()  # events first: what the others hold by now was there before later events
        newest = {kind: self._look(kind, offsets.get(kind, 0)) for kind in kinds}
        found: list[Message] = []
        for kind in ("behaviors", "outcomes", "events"):
            if kind in newest:
                found += self._of(kind, offsets.get(kind, 0), newest[kind], limit - len(found))
        return found

    def _of(self, kind: Kind, first: int, newest: int, limit: int) -> list[Message]:
        found: list[Message] = []
        size = 0
        begun, empty = self._empty.get(kind, (first, first - 1))
        for commit in commits(self.folder / kind, empty if begun == first else first - 1, newest):
            if len(found) >= limit or size > MAX_BYTES:
                break
            if commit.parts or END in commit.metadata:
                found.append(self._message(kind, commit))
                size += sum(part.size for part in commit.parts)
            elif not found:
                self._empty[kind] = first, commit.version
        return found

    def _look(self, kind: str, first: int) -> int:
        """Return the newest version of a table, looking on from what is known."""
        self._newest[kind] = newest_after(self.folder / kind, max(first - 1, self._newest.get(kind, -1)))
        return self._newest[kind]

    def _message(self, kind: Kind, commit: Commit) -> Message:
        types = pl.Schema(open_delta(self.folder / kind).schema().to_arrow())
        rows = pl.concat([pl.DataFrame(schema=types), *read_parts(self.folder / kind, commit.parts, types, None)])
        published = published_at(commit.metadata.get(PUBLISHED, 0))
        return Message(kind, commit.version, kind, rows, published, end=END in commit.metadata)

    def create(self, schema: EventSchema) -> None:
        """Make the tables, or leave equal ones; see Source.create."""
        for kind in KINDS:
            LOGS[kind].create(self.folder / kind, schema)

    def resume(self) -> int:
        """See Source.resume."""
        return 1 + min(self._last(kind) for kind in KINDS)

    def _last(self, kind: Kind) -> int:
        """Return the last number of a replay that the table holds."""
        return LOGS[kind].open(self.folder / kind).last_sequence(WRITER)

    def publish(self, messages: Sequence[Outgoing]) -> None:
        """Commit a call's messages as one commit per kind, events last, so that a reader meets no event before its
        behaviors.

        Every table gets one, also without rows: its sequence is the number of the last message here.
        """
        if not messages:
            return
        number, published = messages[-1].number, {PUBLISHED: repr(time.time())}
        for kind in ("behaviors", "outcomes", "events"):
            log = LOGS[kind].open(self.folder / kind)
            last = log.last_sequence(WRITER)
            mine = [
                message.rows
                for message in messages
                if message.kind == kind and message.number > last and len(message.rows)
            ]
            metadata = {**published, END: "1"} if messages[-1].end else published
            if not mine:
                log.mark(WRITER, number, metadata)
            elif isinstance(log, EventLog):
                log.append(pl.concat(mine), writer=WRITER, sequence=number, metadata=metadata, new_ids=True)
            else:
                log.append(pl.concat(mine), writer=WRITER, sequence=number, metadata=metadata)

    def close(self) -> None:
        """Nothing to free."""

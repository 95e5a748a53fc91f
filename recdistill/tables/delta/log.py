"""One Delta table with atomic, idempotent appends.

    prepare (checks) -> last sequence of the writer on a fresh handle -> files -> commit through that same handle
                                 |                                                    |
                     already there: nothing to do                another process with this id: refused

The library records a writer's transaction number but accepts the same one again, so the writer reads it first; the
commit then conflicts if anyone else used the id in between.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime
from itertools import chain

import polars as pl
from deltalake import CommitProperties, DeltaTable, Schema, Transaction
from deltalake.exceptions import CommitFailedError, DeltaError
from deltalake.transaction import AddAction, RemoveAction
from polars.exceptions import PolarsError

from recdistill.errors import UserError, did_you_mean
from recdistill.storage.location import Location
from recdistill.tables.delta.checksum import seal, seal_of_new
from recdistill.tables.delta.commits import (
    Commit,
    Snapshot,
    check_made,
    commits,
    committed_here,
    cut,
    first_line,
    last_commit,
    newest_after,
    newest_version,
    open_delta,
    reading,
    whole_commit,
)
from recdistill.tables.delta.files import Part, ahead, arrow, gathered, read_parts, write_part, write_parts
from recdistill.tables.delta.merging import mergeable, one_a_partition
from recdistill.tables.delta.paths import has_commit, has_versions
from recdistill.tables.delta.types import TIME
from recdistill.testing.killpoints import reach

__all__ = ["DeltaLog"]

RETRIES = 100  # optimistic conflicts with other writers; appends never truly conflict
KEY = "recdistill.schema"
HOUSEKEEPER = "recdistill.housekeeper"  # writer of the commits that rearrange or remove files: one at a time succeeds
# A version is an offset for ever: nobody may change rows, and the log's commits outlive the usual 30 days.
PROPERTIES = {"delta.appendOnly": "true", "delta.enableExpiredLogCleanup": "false"}
NEVER = -(1 << 62)  # us since 1970, before every time
CHUNK = 65_536  # rows


class DeltaLog:
    """An append-only Delta table at `path`, partitioned by `partitions`, with our schema as JSON in its metadata.

    No partition follows time: a commit is one file, however many its days, and readers leave files out by the range of
    times in their statistics.
    """

    partitions: tuple[str, ...] = ()

    def __init__(self, path: Location) -> None:
        self.path = path
        self._handle: DeltaTable | None = None
        self._snapshot: Snapshot | None = None
        table = open_delta(self.path)
        check_made(self.path)
        self.partitions = tuple(table.metadata().partition_columns)  # a table's own, whoever opens it
        self.schema_text = str(table.metadata().configuration.get(KEY, ""))
        self.types = pl.Schema(table.schema().to_arrow())
        if not self.schema_text:
            raise UserError(f"{path}: a Delta table, but not one of recdistill")
        if "date" in self.partitions:
            raise UserError(f"{path}: partitioned by date, as recdistill no longer writes tables; start another run")

    @classmethod
    def _create(cls, path: Location, columns: dict[str, pl.DataType], text: str) -> None:
        """Make an empty table, or leave an equal one; UserError when the one there has another schema."""
        try:
            if not has_versions(path):  # the library's own question keeps all threads waiting for a network
                empty = pl.DataFrame(schema={**columns, **dict.fromkeys(cls.partitions, pl.String())})
                schema, settings = Schema.from_arrow(arrow(empty).schema), {KEY: text, **PROPERTIES}
                sealed = CommitProperties(custom_metadata=seal_of_new(schema.to_json(), cls.partitions, settings))
                DeltaTable.create(
                    str(path),
                    schema=schema,
                    partition_by=list(cls.partitions),
                    configuration=settings,
                    commit_properties=sealed,
                    raise_if_key_not_exists=False,
                )
        except (DeltaError, OSError) as error:
            if not has_commit(path, 0):  # else another process was quicker
                raise UserError(f"{path}: the table cannot be made: {first_line(error)}") from None
        if cls(path).schema_text != text:
            raise UserError(f"{path}: holds a table of another schema; choose another folder or delete it")

    @property
    def version(self) -> int:
        """Return the newest Delta version."""
        return newest_version(self.path)

    def last_sequence(self, writer: str) -> int:
        """Return the last sequence number that `writer` committed, -1 when none."""
        return _sequence(open_delta(self.path), writer)

    def _append(
        self,
        rows: pl.DataFrame,
        writer: str,
        sequence: int,
        metadata: dict[str, str],
        check: Callable[[DeltaTable], None],
    ) -> int:
        """Commit `rows` once as (writer, sequence); return the table's version. A replay writes nothing.

        `check` looks at the table that is written to, and raises UserError for rows it cannot take.
        """
        return self._once(lambda: write_parts(self.path, rows, self.partitions), writer, sequence, metadata, check)

    def _staged(self, rows: pl.DataFrame, name: str) -> list[AddAction]:
        """Write `rows` into files called `name`, which are no part of the table before `commit_staged`."""
        try:
            return write_parts(self.path, rows, self.partitions, name)
        except OSError as error:
            raise UserError(f"{self.path}: cannot write: {first_line(error)}") from None

    def commit_staged(
        self, files: Sequence[AddAction], *, writer: str, sequence: int, metadata: dict[str, str] | None = None
    ) -> int:
        """Commit files that any process has staged here, once as (writer, sequence); return the table's version.

        Their rows stand in the order of the files' names. The caller has made sure that no sample id is new twice.
        """
        now = int(time.time() * 1000)
        dated = [replace(file, modification_time=now) for file in files]
        return self._once(lambda: dated, writer, sequence, metadata or {}, lambda table: None)

    def _once(
        self,
        write: Callable[[], Sequence[AddAction]],
        writer: str,
        sequence: int,
        metadata: dict[str, str],
        check: Callable[[DeltaTable], None],
    ) -> int:
        """Commit the files of `write` once as (writer, sequence); see `_append`."""
        table = self._newest()
        if _sequence(table, writer) >= sequence:
            return newest_after(self.path, table.version())
        check(table)
        try:
            actions = write()
            reach("table.files")
            self._commit(
                table,
                actions,
                CommitProperties(
                    custom_metadata=metadata,
                    max_commit_retries=RETRIES,
                    app_transactions=[Transaction(writer, sequence)],
                ),
            )
            reach("table.commit")
            return newest_after(self.path, table.version())
        except CommitFailedError as error:
            self._handle = None
            if committed_here(self.path, writer, sequence, {action.path for action in actions}):
                return newest_after(self.path, table.version())
            why = "cannot write" if "Unsupported" in str(error) else f"writer '{writer}' is in use by another process"
            raise UserError(f"{self.path}: {why}: {first_line(error)}") from None
        except (DeltaError, OSError) as error:
            self._handle = None
            raise UserError(f"{self.path}: cannot write: {first_line(error)}") from None

    def _newest(self) -> DeltaTable:
        """Return a handle on the newest version: that of the last append brought up to date, which is
        quicker than a new one.
        """
        handle, self._handle = self._handle, None
        try:
            if handle is not None and whole_commit(self.path, newest_after(self.path, handle.version())):
                handle.update_incremental()
                self._handle = handle
        except (DeltaError, OSError, ValueError):
            self._handle = None  # opening it anew raises what is wrong
        self._handle = self._handle or open_delta(self.path)
        return self._handle

    def _commit(
        self, table: DeltaTable, actions: Sequence[AddAction | RemoveAction], properties: CommitProperties
    ) -> None:
        properties.custom_metadata = seal(actions, properties.app_transactions or [], properties.custom_metadata or {})
        table.create_write_transaction(
            list(actions), "append", table.schema(), list(self.partitions), commit_properties=properties
        )

    def scan(self, version: int | None = None, columns: list[str] | None = None) -> pl.LazyFrame:
        """Return a lazy frame of the table pinned at `version` (default: the newest), in no promised order.

        Polars reads it without verifying checksums; `batches` verifies them.
        """
        frame = pl.scan_delta(open_delta(self.path, version))
        return frame.select(columns) if columns else frame

    def collect(self, query: pl.LazyFrame) -> pl.DataFrame:
        """Return the result of a query over `scan`; UserError when a file is damaged or was removed."""
        try:
            return query.collect()
        except (PolarsError, OSError) as error:
            raise UserError(f"{self.path}: cannot be read: {first_line(error)}") from None

    def rows(self, version: int | None = None) -> int:
        """Return the number of rows, from the table's statistics."""
        table = open_delta(self.path, version)
        with reading(table):
            return int(pl.DataFrame(table.get_add_actions(flatten=True))["num_records"].sum())

    def commits(self, after: int, last: int | None = None) -> Iterator[Commit]:
        """Yield the commits after version `after` (one that exists, or -1) up to `last` (default: the newest), each
        once.

        Those that added no rows are among them, for what their writers recorded; compaction adds none, so whoever reads
        commit by commit sees each row once. Raises UserError for a commit that is damaged or changed rows that were
        there, and for one before `last` that was cleaned up.
        """
        yield from commits(self.path, after, newest_after(self.path, after) if last is None else last)

    def last_commit(self, writer: str) -> Commit | None:
        """Return the newest commit of `writer`, None when it made none."""
        return last_commit(self.path, writer)

    def read(self, commit: Commit, columns: list[str] | None = None) -> pl.DataFrame:
        """Return the rows that a commit added, checksums verified, in the order they were given per partition."""
        types = self._typed(columns)
        return pl.concat([pl.DataFrame(schema=types), *read_parts(self.path, commit.parts, types, None)])

    def mark(self, writer: str, sequence: int, metadata: dict[str, str]) -> int:
        """Commit no rows but `metadata`, once as (writer, sequence); return the table's version."""
        return self._append(pl.DataFrame(schema=self.types), writer, sequence, metadata, lambda table: None)

    def parts(self, version: int | None = None) -> list[Part]:
        """Return the files of `version` (default: the newest) in commit order; a second call reads only
        what is new.
        """
        wanted = self.version if version is None else version
        if self._snapshot is None or not self._snapshot.reaches(wanted):
            self._snapshot = Snapshot(self.path, wanted)
        return self._snapshot.advance(wanted).parts()

    def batches(
        self, version: int | None = None, columns: list[str] | None = None, rows: int = CHUNK
    ) -> Iterator[pl.DataFrame]:
        """Yield the rows at `version`, at most `rows` at a time; memory O(batch).

        They come in commit order, also after compaction, and many small files are read as one.
        """
        yield from ahead(gathered(read_parts(self.path, self.parts(version), self._typed(columns), rows), rows))

    def _typed(self, columns: list[str] | None) -> dict[str, pl.DataType]:
        """Return the types of `columns` (None: all); UserError for one that the table does not have."""
        for name in columns or []:
            if name not in self.types:
                raise UserError(f"{self.path}: there is no column '{name}'{did_you_mean(name, self.types)}")
        return dict(self.types) if columns is None else {name: self.types[name] for name in columns}

    def compact(self) -> bool:
        """Merge small files, rows in commit order; readers and followers see no change. Memory O(batch).

        Return whether that is done: another process that rearranges the table at the same time goes first, and this
        one leaves everything as it is.
        """
        table = open_delta(self.path)
        runs = mergeable(self.parts(table.version()))
        try:
            return self._replace(table, one_a_partition(runs), self._stored)
        except (DeltaError, OSError) as error:
            raise UserError(f"{self.path}: cannot be compacted: {first_line(error)}") from None

    def _replace(
        self, table: DeltaTable, groups: list[list[list[Part]]], rows_of: Callable[[list[Part]], Iterator[pl.DataFrame]]
    ) -> bool:
        """Put `rows_of` every run in its place, as one file, a commit per group; return False once another was quicker.

        table: as it was when the runs were chosen.
        """
        number = _sequence(table, HOUSEKEEPER)
        for done, runs in enumerate(groups):
            table = open_delta(self.path) if done else table
            if _sequence(table, HOUSEKEEPER) != number + done:
                return False
            actions = [action for run in runs for action in self._replaced(run, rows_of(run))]
            reach("compact.files")
            if not self._rearrange(table, actions):
                return False
        return True

    def _replaced(self, run: list[Part], frames: Iterator[pl.DataFrame]) -> Iterator[AddAction | RemoveAction]:
        """Write the file that takes the place of `run`, none without rows; yield what is added and removed."""
        first = next(frames, None)
        if first is not None:
            partition = {name: run[0].partition[name] for name in self.partitions}
            written = min(part.written for part in run)
            yield write_part(self.path, partition, chain([first], frames), written=written, change=False)
        now = int(time.time() * 1000)
        yield from (_removed(part, now) for part in run)

    def _rearrange(self, table: DeltaTable, actions: Sequence[AddAction | RemoveAction]) -> bool:
        """Commit files merged or removed; return False, without what was written for it, where another was quicker.

        Delta would let both take out the same files, and the rows of both merged files would stand. So each commit has
        the next number of one writer, which the library gives to one of them only.
        """
        number = Transaction(HOUSEKEEPER, _sequence(table, HOUSEKEEPER) + 1)
        try:
            self._commit(table, actions, CommitProperties(max_commit_retries=RETRIES, app_transactions=[number]))
            return True
        except CommitFailedError as error:
            if "oncurrent transaction" not in str(error):
                raise
            for action in actions:
                if isinstance(action, AddAction):
                    (self.path / action.path).unlink(missing_ok=True)
            return False

    def _stored(self, parts: list[Part]) -> Iterator[pl.DataFrame]:
        """Yield the rows of `parts` as their files have them, without the partition columns."""
        stored = {name: kind for name, kind in self.types.items() if name not in self.partitions}
        yield from read_parts(self.path, parts, stored, CHUNK * 16)

    def expire(self, before: date) -> int:
        """Take the rows of days before `before` out of the table; return how many. Files go when vacuum finds them
        unneeded; one that also holds newer rows is written anew. Where another process rearranges the table at the same
        time, the rest is left to the next call.

        Followers see no change: what they consumed is consumed. One that lags behind `before` gets an error once they
        are gone.
        """
        table = open_delta(self.path)
        edge = datetime.combine(before, datetime.min.time(), UTC)
        first = int(edge.timestamp()) * 1_000_000
        old = [part for part in self.parts(table.version()) if part.may_hold_times(NEVER, first - 1)]
        whole = [part for part in old if not part.may_hold_times(first, -NEVER)]
        mixed = one_a_partition([[part] for part in old if part.may_hold_times(first, -NEVER)])

        def newer(run: list[Part]) -> Iterator[pl.DataFrame]:
            if run[0].may_hold_times(first, -NEVER):
                yield from (new for rows in self._stored(run) if len(new := rows.filter(pl.col("time") >= edge)))

        try:
            times = read_parts(self.path, old, {"time": TIME}, CHUNK * 16)
            gone = sum(int((rows["time"] < edge).sum()) for rows in times)
            done = self._replace(table, [[[part] for part in whole], *mixed] if whole else mixed, newer)
        except (DeltaError, OSError) as error:
            raise UserError(f"{self.path}: old rows cannot be taken out: {first_line(error)}") from None
        return gone if done else 0

    def vacuum(self, retain_hours: int = 168) -> list[str]:
        """Remove files that no version of the last `retain_hours` needs, killed writers' too; return their names.

        A follower that lags further behind than that can no longer read what was compacted away, and gets an error.
        """
        try:
            table = open_delta(self.path)
            return list(table.vacuum(retain_hours, dry_run=False, enforce_retention_duration=False, full=True))
        except (DeltaError, OSError) as error:
            raise UserError(f"{self.path}: cannot be vacuumed: {first_line(error)}") from None

    def cut(self, before: int) -> int:
        """Remove commits that nobody needs who has read up to version `before`; return how many. Rows stay
        as they are.
        """
        try:
            return cut(self.path, before)
        except OSError as error:
            raise UserError(f"{self.path}: old commits cannot be removed: {first_line(error)}") from None


def _removed(part: Part, now: int) -> RemoveAction:
    return RemoveAction(
        part.path, data_change=False, deletion_timestamp=now, partition_values={**part.partition}, size=part.size
    )


def _sequence(table: DeltaTable, writer: str) -> int:
    with reading(table):
        found = table.transaction_version(writer)
    return -1 if found is None else int(found)
